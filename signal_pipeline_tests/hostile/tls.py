"""A Postgres that speaks TLS only: a terminator in front of the tests' server, with a certificate of its own making.

The embedded server is built without OpenSSL, so what pgbouncer or a cloud's proxy does in production is done here: it
answers libpq's SSLRequest, speaks TLS with the client, and hands the rest on to the unix socket. Whoever does not ask
for TLS is sent away. Not here: tests.
"""

import datetime
import ipaddress
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
NO_TLS = b"E" + struct.pack("!i", 63) + b"SFATAL\0VFATAL\0C28000\0Mthis server speaks nothing but TLS, really\0\0"
ADDRESS = "127.0.0.1"
SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Authority:
    """A certificate authority for tests: its own certificate as a file, and those that it has signed."""

    certificate: Path
    served: Path
    """Certificate and key of the server at 127.0.0.1, in one PEM file."""


def authority(folder: Path, name: str) -> Authority:
    """A new authority, and a server certificate for 127.0.0.1 that it has signed; files in `folder`."""
    key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    # as RFC 5280 wants them: from Python 3.13 on the standard library refuses others
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    own = (
        _builder(issuer, issuer, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(SIGNS_CERTIFICATES, True)
        .add_extension(identifier, False)
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "database")])
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))])
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    served = (
        _builder(subject, issuer, server_key.public_key()).add_extension(place, False).add_extension(signed_by, False)
    )
    made = Authority(folder / f"{name}.crt", folder / f"{name}-server.pem")
    made.certificate.write_bytes(own.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    made.served.write_bytes(
        served.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


@contextmanager
def tls_only(target: str, served: Path) -> Iterator[int]:
    """The port at 127.0.0.1 of a terminator in front of the unix socket `target`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served)
    with socket.create_server((ADDRESS, 0)) as listener:
        threading.Thread(target=_accept, args=(listener, target, context), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)  # ends the waiting accept


def _accept(listener: socket.socket, target: str, context: ssl.SSLContext) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, target, context), daemon=True).start()


def _serve(plain: socket.socket, target: str, context: ssl.SSLContext) -> None:
    with plain, socket.socket(socket.AF_UNIX) as server:
        if plain.recv(len(SSL_REQUEST), socket.MSG_WAITALL) != SSL_REQUEST:
            plain.sendall(NO_TLS)
            return
        plain.sendall(b"S")
        try:
            with context.wrap_socket(plain, server_side=True) as client:
                server.connect(target)
                _hand_on(client, server)
        except OSError:  # ssl.SSLError among them: a client that does not trust us hangs up
            return


def _hand_on(client: ssl.SSLSocket, server: socket.socket) -> None:
    with selectors.DefaultSelector() as ready:
        ready.register(client, selectors.EVENT_READ, server)
        ready.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in ready.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                data = source.recv(65536)
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    data += source.recv(65536)
                if not data:
                    return
                key.data.sendall(data)

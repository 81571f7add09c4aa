"""Database URLs: from what a person wrote to what SQLAlchemy and Dagster need.

Here: reading, normalising and hiding. Not here: connecting. No message shows a password, whatever is wrong with the
URL, so errors name the variable and never quote its value.
"""

import re
from typing import Final
from urllib.parse import unquote

from psycopg import pq
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from signal_pipeline.errors import SettingsError

DOMAIN_DRIVER: Final = "postgresql+psycopg"
"""psycopg 3: binary COPY for our own tables."""

DAGSTER_DRIVER: Final = "postgresql+psycopg2"
"""What dagster-postgres is written for."""

DAGSTER_DATABASE: Final = "dagster"
"""The sibling database of the domain's that Dagster's own storage lives in."""

DEAD_PEER_SECONDS: Final = 30
"""After this long without an acknowledgement a TCP connection counts as dead, at either end of it."""

CLIENT_LIMITS: Final = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": str(DEAD_PEER_SECONDS * 1000),
}
"""libpq's own defaults wait two hours for a peer that is gone, and for ever for one that does not let us in."""

# The server's half. A host that is cut off in the middle of a transaction leaves row locks behind, which nobody can
# take over before the server, too, has noticed. Ignored on a unix socket.
SERVER_LIMITS: Final = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4 "
    f"-c tcp_user_timeout={DEAD_PEER_SECONDS * 1000}"
)

ACCEPTED_DRIVERS: Final = ("postgres", "postgresql", DOMAIN_DRIVER, DAGSTER_DRIVER)

_SECRET_OPTIONS: Final = frozenset({"password", "sslpassword"})
_MASK: Final = "***"


def domain_url(url: str, *, variable: str = "DATABASE_URL") -> str:
    """`url` as psycopg 3 takes it through SQLAlchemy; host, socket folder and options (`sslmode`, …) are kept.

    Raises `SettingsError` naming `variable` when `url` is not one of a Postgres database.
    """
    return _text(_read(url, variable).set(drivername=DOMAIN_DRIVER))


def dagster_url(domain: str, configured: str | None = None) -> str:
    """The URL of Dagster's storage: `configured` (DAGSTER_DATABASE_URL), else a sibling of the `domain` database.

    Raises `SettingsError` naming the variable when a URL cannot be read, or when the domain database already has the
    sibling's name: the two must not share one.
    """
    if configured:
        return _text(_read(configured, "DAGSTER_DATABASE_URL").set(drivername=DAGSTER_DRIVER))
    parsed = _read(domain, "DATABASE_URL")
    if parsed.database == DAGSTER_DATABASE:
        raise SettingsError(
            f"DATABASE_URL names the database {DAGSTER_DATABASE!r}, which Dagster's own storage would take: "
            "rename the database, or set DAGSTER_DATABASE_URL to another one"
        )
    return _text(parsed.set(drivername=DAGSTER_DRIVER, database=DAGSTER_DATABASE))


def limits(url: str, *, connect_timeout: int = 10, options: str = "") -> dict[str, str]:
    """Connection parameters that end the waiting for a peer that is gone, for libpq and for the server.

    `connect_timeout` in s; `options` are further ones for the server (`-c name=value …`). What `url` itself says, in
    its query or in its `?options=`, wins.
    """
    said = make_url(url).query
    own = said.get("options", ())
    everything = (SERVER_LIMITS, options, *((own,) if isinstance(own, str) else own))
    wanted = CLIENT_LIMITS | {"connect_timeout": str(connect_timeout)}
    return {name: value for name, value in wanted.items() if name not in said} | {
        "options": " ".join(part for part in everything if part)
    }


def with_limits(url: str) -> str:
    """`url` with `limits` in its query, for code that is not ours and takes nothing but a URL."""
    return _text(make_url(url).update_query_dict(limits(url)))


def redact(url: str) -> str:
    """`url` for a log or a message: passwords replaced by ***, whether or not the rest can be read."""
    try:
        parsed = make_url(url.strip())
    except (ArgumentError, ValueError):
        without_userinfo = re.sub(r"//.*@", f"//{_MASK}@", url.strip())
        return re.sub(r"(?i)(password=)[^&]*", rf"\g<1>{_MASK}", without_userinfo)
    hidden = {name: _MASK for name in parsed.query if name.lower() in _SECRET_OPTIONS}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def _read(url: str, variable: str) -> URL:
    if any(ord(char) < 32 or ord(char) == 127 for char in unquote(url.strip())):
        # behind a NUL libpq reads nothing more, and other errors of the driver quote what stands there
        raise SettingsError(f"{variable} holds a control character, or the code of one such as %00: it was damaged")
    try:
        parsed = make_url(url.strip())
    except (ArgumentError, ValueError):
        # the parser's own message quotes pieces of the URL, which may be pieces of the password
        raise SettingsError(
            f"{variable} cannot be read as a URL. Expected postgresql://user:password@host:5432/database; "
            "percent-encode special characters of the password, and name several hosts as ?host=a:5432&host=b:5432"
        ) from None
    if "@" in f"{parsed.host or ''}{parsed.database or ''}":
        # a password with an unescaped @ or / in it: pieces of it would be taken, and shown, for a host or a database
        raise SettingsError(f"{variable} has an @ behind the host: percent-encode special characters of the password")
    if parsed.drivername not in ACCEPTED_DRIVERS:
        raise SettingsError(
            f"{variable} begins with {parsed.drivername!r}; accepted are {', '.join(ACCEPTED_DRIVERS)}, followed by ://"
        )
    if not parsed.database:
        raise SettingsError(f"{variable} names no database: end it with /database")
    _check_options(parsed, variable)
    _check_hosts(parsed, variable)
    parsed = parsed.set(database=unquote(parsed.database))
    if parsed.host and parsed.host.lower().startswith("%2f"):  # libpq's other way to write a socket folder
        parsed = parsed.set(host="").update_query_dict({"host": unquote(parsed.host)})
    return parsed


def _check_options(parsed: URL, variable: str) -> None:
    """The driver would only notice at the first connection, and not as a setting that is wrong."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    unknown = sorted(set(parsed.query) - known)
    if unknown:
        raise SettingsError(f"{variable} has options that libpq does not know: {', '.join(map(repr, unknown))}")
    timeout = parsed.query.get("connect_timeout", "0")
    if not (isinstance(timeout, str) and timeout.isdecimal()):
        raise SettingsError(f"{variable}: connect_timeout must be a whole number of seconds, given once")


def _check_hosts(parsed: URL, variable: str) -> None:
    """Neither libpq nor the driver would say it in words: Python encodes a host's name before it is looked up."""
    said = parsed.query.get("host", ())
    for host in (parsed.host or "", *((said,) if isinstance(said, str) else said)):
        name = host.rpartition(":")[0] or host
        try:
            if not name.startswith(("/", "%", "@")):
                name.encode("idna")
        except UnicodeError:
            raise SettingsError(
                f"{variable}: the host is no name: its parts between dots have 1 to 63 letters"
            ) from None


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)

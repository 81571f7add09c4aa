"""A process that keeps a Postgres up which hosts reach by TCP, for as long as its standard input is open.

`python database_server.py HOME ADDRESS`, inside the namespace that has ADDRESS. Prints the URL of its unix socket.
"""

import sys
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.embedded.keeper import Place

ANYBODY_IN_THE_NAMESPACES = "host all all 10.99.0.0/24 trust\n"


def serve(home: Path, address: str) -> None:
    with embedded_server(home, fsync=False, settings={"listen_addresses": address}) as url:
        with (Place(home / "postgres").data / "pg_hba.conf").open("a") as rules:
            rules.write(ANYBODY_IN_THE_NAMESPACES)
        plain = make_url(url).set(drivername="postgresql")
        with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as conn:
            conn.execute("SELECT pg_reload_conf()")
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])

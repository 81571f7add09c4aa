"""A process that uses the embedded server of the folder in its first argument until its standard input ends.

Started by path, by the tests of the embedded server. It prints the server's URL when it has it, and after a Ctrl-C
whether the server still answered.
"""

import signal
import sys
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from signal_pipeline.db.embedded import embedded_server

# Whoever started the tests may ignore or block them, as a shell does for what it runs in the background.
signal.pthread_sigmask(signal.SIG_SETMASK, ())
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)

with embedded_server(Path(sys.argv[1]), fsync=False) as url:
    try:
        print(url, flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as conn:
            print("still answers:", conn.execute("SELECT 1").fetchone(), flush=True)

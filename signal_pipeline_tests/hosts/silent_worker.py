"""A host that is cut off in the middle of a transaction, and asks its databases something while it is.

`python silent_worker.py DATABASE_URL DAGSTER_URL`: locks all signals in a transaction, says so, waits for a line, and
prints as JSON what became of a query on either connection.
"""

import json
import sys

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from signal_pipeline.db.engine import create_engine
from signal_pipeline.orchestration.storage import shared_engine
from signal_pipeline.settings import DatabaseSettings


def main(url: str, dagster_url: str) -> None:
    engines = {"domain": create_engine(url, DatabaseSettings()), "dagster": shared_engine(dagster_url)}
    open_connections = {name: engine.connect() for name, engine in engines.items()}
    open_connections["dagster"].execute(text("SELECT 1"))
    open_connections["domain"].execute(text("SELECT id FROM raw_signals FOR UPDATE"))
    print("locked", flush=True)
    sys.stdin.readline()
    answers = {}
    for name, conn in open_connections.items():
        try:
            conn.execute(text("SELECT 1"))
            answers[name] = "answered"
        except OperationalError:
            answers[name] = "given up"
    print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

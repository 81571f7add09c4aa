"""The faults of this suite, and what is promised of each. The table in docs/reliability.md is made of this.

Not here: the tests (`test_*.py`, each names its fault's number), and what was seen (`report`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """`what` is done to the pipeline, and what is `promised` although it is."""

    number: int
    what: str
    promised: str


FAULTS = (
    Fault(
        1,
        "`kill -9` of a worker at every boundary of its work: before each statement and before each commit, and at "
        "random moments beside others; also of work that reads a CSV again or clears its samples, and of the command "
        "`signal-pipeline process`",
        "the next worker finishes; samples, features, hours, diagnoses, scores, events and counters equal an "
        "undisturbed run's",
    ),
    Fault(
        2,
        "`SIGSTOP` of a worker at every fifth boundary (of five seeds: at each) "
        "until its lease is over and another has done its work, then `SIGCONT`",
        "its writes change no row, and its log says `claim.lost`",
    ),
    Fault(
        3,
        "Postgres: `kill -9` of the postmaster, immediate shutdown, and a kill while it recovers",
        "workers reconnect and finish; what was committed is there",
    ),
    Fault(
        4,
        "connections ended by `pg_terminate_backend`; a proxy that goes silent in the middle of an answer; a commit "
        "that landed and whose answer is lost, each commit of the work in turn",
        "the transaction is done again, unless it has landed, and counted once; nobody waits longer for an answer than "
        "DATABASE_STATEMENT_TIMEOUT_SECONDS and half a minute",
    ),
    Fault(
        5,
        "disk full: of the database, of the temporary folder, of the models folder",
        "no half-written artefact; signals finish when there is space again",
    ),
    Fault(
        6,
        "two, four and eight workers on one queue",
        "no signal lost, none done twice, and the scores of a single worker",
    ),
    Fault(7, "a worker's clock an hour fast, and an hour slow", "leases live on the database's clock: nothing changes"),
    Fault(8, "the same file loaded twice, by processes at once, and renamed", "one set of rows, worked on once"),
    Fault(
        9,
        "every signal computed again: asked for by a person, and a backfill of everything in Dagster",
        "the same rows, to the last bit",
    ),
    Fault(
        10,
        "a signal that kills its worker: by a segmentation fault, and by exhausting the memory",
        "FAILED at the cap (`crash_loop`), or at once where Python survives it; its neighbours finish",
    ),
    Fault(
        11,
        "a transaction left open during the whole run",
        "the fetch still goes by its index and reads a bounded number of pages",
    ),
    Fault(
        12,
        "`kill -9` in a running Dagster: of a run, of the web server, of everything at once, and of daemon and code "
        "server between claim and run request",
        "after a restart every signal finishes, nothing is there twice, and no dead run holds a slot",
    ),
    Fault(
        13,
        "power cut of the embedded server: `kill -9` of its whole tree, ten times in a row",
        "the next command recovers it, with everything that was committed",
    ),
)

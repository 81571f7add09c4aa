"""What the suite saw, and docs/reliability.md made of it. Not here: what was promised (`catalogue`).

The page is written after `make test-faults`, and says of how many seeds, and what did not run. Counts of faults and
signals, never durations.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from signal_pipeline_tests.faults.catalogue import FAULTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"

HEAD = """\
# Reliability

Whatever is killed, cut, filled or fed, every signal ends completed or FAILED with its reason, features and scores equal
those of an undisturbed run, nothing is there twice, no stale worker's write lands, and recovery takes at most the lease
and one look at the queue.

This page is written by the suite in `signal_pipeline_tests/faults`, which does all of this to real processes and a real
Postgres (`make test-faults SEEDS=20`; an ordinary test run does one seed). The lease is 2 s there. "Undisturbed" is the
same story worked off by one worker in peace: signals with their reasons, features, hours, diagnoses, scores, states of
the streams, events and totals, compared whole.

"""
TAIL = """
## Stated limits

- A signal is taken over when its lease (`CLAIM_LEASE_SECONDS`) has ended, and somebody looks at the queue: the daemon's
  sensor every 5 s, `signal-pipeline process --wait` every second.
- A worker that is frozen in the middle of a transaction keeps its rows locked until Postgres ends the transaction,
  after `DATABASE_IDLE_TRANSACTION_SECONDS`.
- A server that takes a statement and never answers is given up after `DATABASE_STATEMENT_TIMEOUT_SECONDS` and 30 s; a
  connection whose other end is gone, after 30 s. Then the transaction is tried again for a minute, and the batch is
  left to its lease.
- A run of a Dagster that died whole, code server and all, holds one of its slots until the next Dagster's daemon looks
  (`run_monitoring.poll_interval_seconds` in `dagster.yaml`, 20 s); one that had not started yet, for
  `start_timeout_seconds`. Only when all slots are held do signals wait for that.
- Runs that end before they come to their signals (the database's resource cannot be made, say) count no attempt, for no
  signal is to blame: the daemon tries again with every lease, `signal-pipeline process` three times.
- An attempt counts when work on a signal begins, also if its worker lived and lost its lease, to a database that was
  away for long, say. A signal whose leases are lost `CLAIM_MAX_ATTEMPTS` (3) times in a row is FAILED `crash_loop`, and
  `signal-pipeline retry` takes it up again. Where this suite kills more often than that, or its lease of 2 s runs out
  on a busy machine (1, 3, 4, 5, 7, 12, 13), the cap is raised to 100; cuts (4) are also made at the shipped one.
- Dagster's own storage goes through psycopg2, which knows no such limit beyond TCP's: a run that hangs there is ended
  by `max_runtime_seconds` in `dagster.yaml`, and its signals are taken over long before.
- A models folder is safe on a local disk; on a network file system, as safe as its `rename` and `flock`.
"""


@dataclass(slots=True)
class Seen:
    """What happened to one fault's tests."""

    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def verdict(self) -> str:
        if self.outcomes["failed"]:
            return "**broken**"
        if not self.outcomes.total():
            return "not run"
        return "skipped" if self.outcomes["skipped"] and not self.outcomes["passed"] else "kept"

    def told(self) -> str:
        counts = ", ".join(f"{n} {what}" for what, n in self.counts.items())
        skipped = f" ({self.outcomes['skipped']} skipped)" if self.outcomes["skipped"] else ""
        return f"{counts}{skipped}"


def page(seen: dict[int, Seen], *, seeds: int) -> str:
    """The whole text; a fault whose tests did not run is listed as such."""
    rows = ["| | fault | promised | seen | promise |", "|---|---|---|---|---|"]
    for fault in FAULTS:
        one = seen.get(fault.number, Seen())
        rows.append(f"| {fault.number} | {fault.what} | {fault.promised} | {one.told()} | {one.verdict} |")
    plural = "seed" if seeds == 1 else "seeds"
    return f"{HEAD}## Seen with {seeds} {plural}\n\n" + "\n".join(rows) + "\n" + TAIL

"""What Dagster costs: the same pending signals without it, through `signal-pipeline process`, and by daemon and sensor.

    python benchmarks/throughput.py [--signals 1000] [--seconds 10] [--fs 25600] [--plates]
                                    [--cases bare,bare_two,process,sensor,one_process,two_processes]

One embedded server; each case gets a copy of one database whose signals were prepared beforehand and become claimable
at one moment. `bare` is timed in a warm process with its usual threads, from that moment, `bare_two` in two of one
thread each, as the daemon has two runs. `process` is the whole command, its start included;
`sensor` is a warm daemon, from that moment until the last signal is final. `one_process` and `two_processes` are that
many commands with one thread each, on batches so small that neither waits long for the other's last one. With
`--plates` every motor has its nameplate, and the diagnosis all its work; without, it refuses the rotor.

How to read it: the last line is one JSON object. Machine-independent are the ratios only: `dagster_overhead` (wall time
over that of `bare`; `_two`: of `bare_two`), `dagster_overhead_cpu`, which other work on the machine moves less, and
`two_processes_to_one`: `times_as_fast` is wall time of one over that of two. `cores_used_by_one` says what limits it: a
process with one thread still keeps Postgres and its own storing thread busy beside it, so on a machine with c cores two
can be at most `at_most` = c / cores_used_by_one times as fast. Give it an idle machine; `load_before` says whether it
was one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import psutil
import yaml

from benchmarks.measuring import Family, connect, cpu_seconds, postmaster, sessions
from benchmarks.staging import POLL_SECONDS, Stage, seed
from signal_pipeline.cli.environment import Surroundings, prepare_dagster, surroundings
from signal_pipeline.cli.server import dagster_server
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.settings import load_settings


class Cost(Protocol):
    """What processes cost: a `Family`, or several."""

    @property
    def cpu_seconds(self) -> float: ...

    @property
    def peak_bytes(self) -> int: ...


Result = tuple[float, Cost, dict[str, Any]]
"""Seconds from release to the end, what the processes cost, and what else there is to say."""

Case = Callable[[Stage], Result]


def run_bare() -> None:
    """The child of the case `bare`: claims and works without Dagster, timed by its parent."""
    from signal_pipeline.db.claims import claim_pending
    from signal_pipeline.db.engine import create_engine
    from signal_pipeline.dsp.warm_up import warm_up
    from signal_pipeline.observability.logs import configure_logging
    from signal_pipeline.processing.batch import Batch
    from signal_pipeline.processing.run import run_batch
    from signal_pipeline.processing.worker import Worker

    settings = load_settings()
    configure_logging(settings.app, default_level="ERROR")
    worker = Worker(create_engine(os.environ["DATABASE_URL"], settings.database), settings, "bare")
    warm_up()
    print("ready", flush=True)
    sys.stdin.readline()
    while claims := claim_pending(worker.engine, settings=settings.claims, claimed_by=worker.name).claims:
        for claim in claims:
            run_batch(worker, Batch(claim.token, claim.signal_ids))
    print("done", flush=True)
    sys.stdin.readline()


def bare(stage: Stage) -> Result:
    return bare_processes(stage, [stage.environment()])


def bare_two(stage: Stage) -> Result:
    return bare_processes(stage, [ONE_THREAD | stage.environment(n) | stage.small_batches() for n in range(2)])


def bare_processes(stage: Stage, environments: list[dict[str, str]]) -> Result:
    """Warm processes without Dagster, one for each environment, from the release until the last one is done."""
    command = [sys.executable, __file__, "--bare-child"]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        children = [
            stack.enter_context(subprocess.Popen(command, env=os.environ | more, stdin=pipe, stdout=pipe, text=True))
            for more in environments
        ]
        for child in children:
            _expect(child, "ready")
        with ExitStack() as watched:
            families = tuple(watched.enter_context(Family(child.pid)) for child in children)
            stage.release()
            start = time.perf_counter()
            for child in children:
                _tell(child)
            for child in children:
                _expect(child, "done")
            seconds = time.perf_counter() - start
        for child in children:
            _tell(child)
    return seconds, Together(families), {}


def _tell(child: "subprocess.Popen[str]") -> None:
    """The next line that a child waits for."""
    if child.stdin is None:
        raise RuntimeError("no pipe")
    child.stdin.write("go\n")
    child.stdin.flush()


def _expect(child: "subprocess.Popen[str]", word: str) -> None:
    line = child.stdout.readline() if child.stdout is not None else "nothing"
    if line.strip() != word:
        raise RuntimeError(f"the child said {line!r} instead of {word!r}; what went wrong stands above")


@dataclass(frozen=True)
class Together:
    """The cost of processes side by side."""

    families: tuple[Family, ...]

    @property
    def cpu_seconds(self) -> float:
        return sum(family.cpu_seconds for family in self.families)

    @property
    def peak_bytes(self) -> int:
        return sum(family.peak_bytes for family in self.families)


def process(stage: Stage) -> Result:
    return commands(stage, [stage.environment()])


def one_process(stage: Stage) -> Result:
    return commands(stage, [ONE_THREAD | stage.environment() | stage.small_batches()])


def two_processes(stage: Stage) -> Result:
    return commands(stage, [ONE_THREAD | stage.environment(number) | stage.small_batches() for number in range(2)])


ONE_THREAD = {"FEATURE_EXTRACTION_PARALLEL": "false"}


def commands(stage: Stage, environments: list[dict[str, str]]) -> Result:
    """`signal-pipeline process` in each of these environments at once, until the last one ends."""
    stage.release()
    command = [str(Path(sys.executable).parent / "signal-pipeline"), "process", "--json"]
    with ExitStack() as stack:
        start = time.perf_counter()
        children = [
            stack.enter_context(subprocess.Popen(command, env=os.environ | more, stdout=subprocess.DEVNULL))
            for more in environments
        ]
        families = tuple(stack.enter_context(Family(child.pid)) for child in children)
        ended = [child.wait() for child in children]
        seconds = time.perf_counter() - start
    if any(ended):
        raise RuntimeError(f"signal-pipeline process ended with {ended}")
    return seconds, Together(families), {}


def sensor(stage: Stage) -> Result:
    with _environment(stage.environment()), surroundings(load_settings()) as here, _server(here) as pid:
        with Family(pid) as family:
            stage.release()
            start = time.perf_counter()
            released_at = time.time()
            stage.wait_until_final()
            seconds = time.perf_counter() - start
        _let_runs_end(stage)
    return seconds, family, {"timeline": stage.timeline(released_at)}


def sensor_stock(stage: Stage) -> Result:
    """The same with dagster-postgres as it comes, and Dagster's own intervals: what docs/decisions/0002 is about."""

    def prepare_stock(here: Surroundings) -> None:
        prepare_dagster(here)
        path = here.dagster_home / "dagster.yaml"
        instance = yaml.safe_load(path.read_text())
        instance["storage"] = {"postgres": {"postgres_url": {"env": "DAGSTER_DATABASE_URL"}}}
        del instance["run_coordinator"]["config"]
        path.write_text(yaml.safe_dump(instance))

    with (
        _environment({"DAGSTER_EVENT_BATCH_SIZE": "0"}),
        patch("signal_pipeline.cli.server.prepare_dagster", prepare_stock),
    ):
        return sensor(stage)


CASES: dict[str, Case] = {
    case.__name__: case for case in (bare, bare_two, process, sensor, sensor_stock, one_process, two_processes)
}
USUAL = "bare,bare_two,process,sensor,one_process,two_processes"


@contextmanager
def _server(here: Surroundings) -> Iterator[int]:
    """A daemon that has looked at the (empty) queue at least once."""
    with dagster_server(here, port=3250, quiet=True) as server:
        server.wait_until_ready()
        with connect(here.dagster_url) as conn:
            deadline = time.monotonic() + 120
            while conn.execute("SELECT count(*) FROM job_ticks").fetchone() == (0,):
                if time.monotonic() > deadline:
                    raise RuntimeError("the sensor did not tick within two minutes")
                server.check()
                time.sleep(0.5)
        yield server.process.pid


def _let_runs_end(stage: Stage) -> None:
    """The last events are written after the last signal: count them, too."""
    with connect(stage.dagster_url) as conn:
        while conn.execute("SELECT count(*) FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE')").fetchone() != (0,):
            time.sleep(POLL_SECONDS)


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def measure(case: str, url: str, home: Path, signals: int) -> dict[str, Any]:
    """Run one case on databases of its own and say what it cost."""
    stage = Stage(url, case, home)
    server = postmaster(url)
    postgres_before, load = cpu_seconds(server), psutil.getloadavg()[0]
    seconds, family, more = CASES[case](stage)
    events, runs = stage.dagster_counts()
    postgres_cpu = cpu_seconds(server) - postgres_before
    found = {
        "seconds": round(seconds, 2),
        "signals_per_second": round(signals / seconds, 2),
        "cpu_seconds": {"python": round(family.cpu_seconds, 1), "postgres": round(postgres_cpu, 1)},
        "peak_mib": round(family.peak_bytes / 2**20),
        "dagster_runs": runs,
        "dagster_events_per_signal": round(events / signals, 2),
        "connections_per_signal": round(sessions(url, stage.databases) / signals, 3),
        "load_before": round(load, 1),
        **stage.results(),
        **more,
    }
    stage.drop()
    print(f"{case}: {json.dumps(found)}", flush=True)
    return found


def overheads(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How many times as much as each bare case each took: wall time, and, steadier on a busy machine, CPU time."""
    bares = [case for case in found if case.startswith("bare")]
    others = [case for case in found if case not in bares]
    cpu = {case: sum(found[case]["cpu_seconds"].values()) for case in found}
    ratios: dict[str, Any] = {}
    for base in bares:
        name = "dagster_overhead" + base.removeprefix("bare")
        ratios[name] = {case: round(found[case]["seconds"] / found[base]["seconds"], 2) for case in others}
        ratios[name.replace("overhead", "overhead_cpu")] = {case: round(cpu[case] / cpu[base], 2) for case in others}
    return ratios


def speed_up(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How many times as fast two processes are as one, and how fast they could be on these cores."""
    if not {"one_process", "two_processes"} <= set(found):
        return {}
    one, two = found["one_process"], found["two_processes"]
    cores_used = sum(one["cpu_seconds"].values()) / one["seconds"]
    return {
        "two_processes_to_one": {
            "times_as_fast": round(one["seconds"] / two["seconds"], 2),
            "cores_used_by_one": round(cores_used, 2),
            "at_most": round(min(2.0, (os.cpu_count() or 1) / cores_used), 2),
            "cpu_ratio": round(sum(two["cpu_seconds"].values()) / sum(one["cpu_seconds"].values()), 2),
        }
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each recording")
    parser.add_argument("--fs", type=float, default=25_600.0, help="Hz")
    parser.add_argument("--plates", action="store_true", help="the motors have nameplates")
    parser.add_argument("--cases", default=USUAL, help=f"of {', '.join(CASES)}")
    parser.add_argument("--bare-child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare_child:
        run_bare()
        return
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # where root runs the server, its user has to pass
        with embedded_server(home) as url:
            seed(url, signals=arguments.signals, seconds=arguments.seconds, fs=arguments.fs, plates=arguments.plates)
            cases = arguments.cases.split(",")
            found = {case: measure(case, url, home, arguments.signals) for case in cases}
    given = {"signals": arguments.signals, "seconds": arguments.seconds, "fs": arguments.fs, "cores": os.cpu_count()}
    print(json.dumps({**given, **found, **overheads(found), **speed_up(found)}))


if __name__ == "__main__":
    main()

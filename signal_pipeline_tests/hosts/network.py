"""Hosts on one switch, each a network namespace of its own: cut off in silence, and brought back. Not here: tests.

Nothing touches the machine's own network: switch, links and addresses exist only inside namespaces that the block
makes and removes, with whatever still runs in them. A host is cut off by taking its port out of the switch: both ends
keep their link, and every packet is lost without a word, as behind a dead cable far away.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from signal_pipeline_tests.programs import program

SWITCH = "switch"
PREFIX = "signal-pipeline-"


@dataclass(frozen=True)
class Network:
    """The names of its hosts in order; the first has address 10.99.0.1."""

    ip: Path
    hosts: tuple[str, ...]

    def namespace(self, host: str) -> str:
        return f"{PREFIX}{os.getpid()}-{host}"

    def address(self, host: str) -> str:
        return f"10.99.0.{self.hosts.index(host) + 1}"

    def inside(self, host: str) -> list[str]:
        """What to put before a command, so that it runs on `host`. The process that starts becomes the command."""
        return [str(self.ip), "netns", "exec", self.namespace(host)]

    def cut(self, host: str) -> None:
        self.do("-n", self.namespace(SWITCH), "link", "set", "dev", host, "nomaster")

    def mend(self, host: str) -> None:
        self.do("-n", self.namespace(SWITCH), "link", "set", "dev", host, "master", "bridge")

    def do(self, *words: str) -> str:
        """Run `ip`. Raises `RuntimeError` with what it says."""
        done = subprocess.run([str(self.ip), *words], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def build(self) -> None:
        switch = self.namespace(SWITCH)
        self.do("netns", "add", switch)
        self.do("-n", switch, "link", "add", "bridge", "type", "bridge")
        self.do("-n", switch, "link", "set", "bridge", "up")
        for host in self.hosts:
            self._plug_in(host, switch)

    def _plug_in(self, host: str, switch: str) -> None:
        own = self.namespace(host)
        self.do("netns", "add", own)
        self.do("link", "add", "eth0", "netns", own, "type", "veth", "peer", "name", host, "netns", switch)
        self.do("-n", own, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self.do("-n", own, "link", "set", "dev", device, "up")
        self.do("-n", switch, "link", "set", "dev", host, "up", "master", "bridge")

    def processes(self, host: str) -> list[int]:
        return [int(pid) for pid in self.do("netns", "pids", self.namespace(host)).split()]

    def remove(self) -> None:
        """The namespaces, with every process in them; and those that a test run which was killed has left."""
        for namespace in (line.split()[0] for line in self.do("netns", "list").splitlines() if line):
            owner = namespace.removeprefix(PREFIX).split("-")[0]
            if namespace.startswith(PREFIX) and (int(owner) == os.getpid() or not psutil.pid_exists(int(owner))):
                for pid in self.do("netns", "pids", namespace).split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                self.do("netns", "delete", namespace)


@contextmanager
def network(hosts: Sequence[str]) -> Iterator[Network]:
    """`hosts` on one switch. Where namespaces are not allowed the test is skipped, and says so."""
    made = Network(program("ip"), tuple(hosts))
    try:
        made.do("netns", "add", made.namespace("trial"))
    except RuntimeError as refused:
        pytest.skip(f"MANY HOSTS ARE NOT TESTED HERE: no network namespaces (run as root to have them): {refused}")
    made.remove()
    try:
        made.build()
        yield made
    finally:
        made.remove()

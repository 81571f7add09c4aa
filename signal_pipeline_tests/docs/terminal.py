"""A terminal of a person who types a line of the README that ends only by Ctrl-C, and looks at what comes of it.

Here: finding the line, typing it, pressing Ctrl-C, and what is left of it. Not here: what a command promises
(`test_endless`), nor sessions that end by themselves (`console`).
"""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import psutil

PATIENCE_SECONDS = 300
"""After which something counts as hung, on a machine that is busy with other things."""

MARK = "SIGNAL_PIPELINE_TESTS_TERMINAL"
"""Environment variable that every process of one terminal inherits, whatever session or parent it gives itself."""


def line_of(document: Path, command: str) -> str:
    """The one line of a document that types `command`, with its comment. Raises `ValueError` if there is not one."""
    found = re.findall(rf"^{re.escape(command)}(?= |$).*$", document.read_text(encoding="utf-8"), re.MULTILINE)
    if len(found) != 1:
        raise ValueError(f"{document.name} types {command!r} {len(found)} times, not once")
    return str(found[0])


def wait_until(condition: Callable[[], bool], what: str, *terminals: "Terminal") -> None:
    """Poll until `condition`; raises `AssertionError` with what stands in the terminals if one ended or hangs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        over = time.monotonic() > deadline or any(terminal.process.poll() is not None for terminal in terminals)
        assert not over, f"{what}: not seen; " + "\n".join(f"$ {t.line}\n{t.shown()}" for t in terminals)
        time.sleep(0.3)


class Terminal:
    """A line typed into a shell that is a process group of its own, as a terminal's foreground job is.

    As a context, whatever is left of it is killed at the end, so that a test that fails leaves nothing either.
    """

    def __init__(self, line: str, *, folder: Path, environment: Mapping[str, str]) -> None:
        self.line = line
        self._mark = uuid.uuid4().hex
        self._screen = folder / f"screen-{self._mark}"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with self._screen.open("wb") as screen:
            self.process = subprocess.Popen(
                ["bash", "-c", line],
                cwd=folder,
                env=os.environ | environment | {"PATH": path, "COLUMNS": "200", MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._family():
            process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def shown(self) -> str:
        return self._screen.read_text(errors="replace")

    def press_ctrl_c(self) -> int:
        """SIGINT to the whole group, as a terminal sends it; the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(PATIENCE_SECONDS)

    def left(self) -> list[str]:
        """The command lines of processes that came of it and live."""
        found = []
        for process in self._family():
            try:
                found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found

    def _family(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

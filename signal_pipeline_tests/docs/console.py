"""The `console` blocks of a document: which commands stand there, and what they print.

A block is a terminal as a reader sees it: lines that begin with `$ ` are typed, the others were printed. Not here:
running them (`test_readme`). What differs from run to run (times, ids, free disk, the latest migration, the width of a
table) is replaced by a mark on both sides, so that the document may show a real value.
"""

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)

CHANGING = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}"), "<version>"),
    (re.compile(r"(?<!\d)20(?!25-08)\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?"), "<now>"),
    (re.compile(r"\b\d+(\.\d+)? (s|ms|min|h|seconds|minutes)\b"), "<duration>"),
    (re.compile(r"\b\d+(\.\d+)? (GiB|GB|MiB|MB)\b"), "<bytes>"),
    (re.compile(r"\d+(\.\d+)?/min\b"), "<rate>"),
    (re.compile(r"at \d{4}$", re.MULTILINE), "at <head>"),
    (re.compile(r"[ \t]+"), " "),
]


@dataclass(frozen=True, slots=True)
class Typed:
    """One command of a block, and what the document says that it prints."""

    command: str
    printed: str


def typed(document: Path) -> list[Typed]:
    """All commands of all `console` blocks, in their order."""
    found = []
    for block in BLOCK.findall(document.read_text(encoding="utf-8")):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = piece.partition("\n")
            found.append(Typed(command.split("  #")[0].strip(), printed))
    return found


def steady(text: str) -> str:
    """`text` without what differs from run to run."""
    for pattern, mark in CHANGING:
        text = pattern.sub(mark, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def rewritten(document: str, printed: list[str]) -> str:
    """`document` with `printed` below its commands: how to bring the outputs up to date."""
    outputs = iter(printed)

    def block(match: re.Match[str]) -> str:
        lines = [line for line in match.group(1).splitlines() if line.startswith("$ ")]
        return "```console\n" + "".join(f"{line}\n{_lines(next(outputs))}" for line in lines) + "```"

    return BLOCK.sub(block, document)


def _lines(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())

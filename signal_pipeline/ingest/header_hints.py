"""What to type when a file's first line does not say where R, S and T are: a proposal, never a guess that is acted on.

Which column is which phase decides the sequence components, so a person says it; but the option that they need can be
written for them. Not here: finding the columns that were asked for (`layout`).
"""

import re
import shlex
from collections.abc import Sequence
from typing import Final

from signal_pipeline.domain import PHASE_NAMES

_FAMILIES: Final = ("rst", "abc", "uvw", "123", "абв", "авс")
"""The letters that phases are known by; the last two are Cyrillic, the third of them in the shape of a Latin one."""

_BRACKETS: Final = re.compile(r"[(\[].*?[)\]]")
_NOT_CURRENT: Final = re.compile(r"[uvpqs]l?|.*(volt|spann|напр|power|leist|мощн|temp|темп|vib|вибр|acc).*")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?")


def remedy(cells: Sequence[str], line: str) -> str:
    """What a person can do about a first line without the expected names, the likeliest first."""
    if line.startswith(("#", "%", "//")):
        return "a file begins with its header: take away the lines before it"
    if line.lstrip().startswith("<"):
        return "this is a page or XML, not a CSV: export the data as CSV"
    if (hint := other_delimiter(cells)) is not None:
        return hint
    if all(_NUMBER.fullmatch(cell) for cell in cells if cell) and any(cells):
        return _for_samples(len(cells))
    columns = proposed(cells)
    if columns is not None:
        return f"if these are the currents, load it again with --columns {shlex.quote(columns)}"
    return "name the file's own columns with --columns R=…,S=…,T=…, or use --no-header if line 1 holds samples"


def other_delimiter(cells: Sequence[str]) -> str | None:
    """What to do about a line that nothing cuts but a delimiter that is not read; None if it is not that."""
    if len(cells) != 1 or "|" not in cells[0]:
        return None
    return "cells end in '|' there, which is not read: export the file with , ; or tab between the cells"


def proposed(cells: Sequence[str]) -> str | None:
    """`R=ia,S=ib,T=ic` for the one triple of columns that are named like phases, or for a single column; else None."""
    found = [triple for family in _FAMILIES if (triple := _triple(cells, family)) is not None]
    if len(cells) == 1 and cells[0] and "," not in cells[0]:
        return f"R={cells[0]}"
    if len(found) != 1:
        return None
    return ",".join(f"{phase}={name}" for phase, name in zip(PHASE_NAMES, found[0], strict=True))


def _for_samples(n_columns: int) -> str:
    if n_columns <= len(PHASE_NAMES):
        return "line 1 holds samples: use --no-header"
    return (
        f"line 1 holds samples, in {n_columns} columns: use --no-header, and say which ones are the currents, for "
        "example --columns R=2,S=3,T=4 where the first is the time"
    )


def _triple(cells: Sequence[str], family: str) -> tuple[str, ...] | None:
    """The three columns whose names differ only in the phase that they end in, currents before anything else."""
    stems: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        name = _plain(cell)
        if name and name[-1] in family and "," not in cell:
            stems.setdefault(name[:-1], {}).setdefault(name[-1], []).append(cell)
    whole = {
        stem: tuple(phases[letter][0] for letter in family)
        for stem, phases in stems.items()
        if len(phases) == len(family) and all(len(names) == 1 for names in phases.values())
    }
    currents = {stem: names for stem, names in whole.items() if not _NOT_CURRENT.fullmatch(stem)}
    return next(iter(currents.values())) if len(currents) == 1 else None


def _plain(cell: str) -> str:
    """`Strom L1 [A]` as `stroml1`."""
    return "".join(char for char in _BRACKETS.sub("", cell).casefold() if char.isalnum())

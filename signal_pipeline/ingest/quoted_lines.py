"""Files whose lines stand in one quoted cell each, as some exporters write them: what such a line holds.

Of a file whose first line is wrapped, every line is plain, without a quote, or wrapped whole: `"1,2,3"`, or
`"1,""2"",3"`. A quote anywhere else belongs to a damaged line: dropped, it would make 12 of `"1"2`. Not here: what the
cells hold (`cells`).
"""

import re
from typing import Final

import numpy as np

from signal_pipeline.ingest.blocks import Block

_WRAPPED: Final = re.compile(rb'"((?:[^"]|"")*)"')
_QUOTE: Final = ord('"')
_RETURN: Final = ord("\r")


def unwrapped_line(line: bytes) -> bytes | None:
    """What a line without its end holds: `1,2,3` of `"1,2,3"`. None if a quote stands where none belongs."""
    if b'"' not in line:
        return line
    whole = _WRAPPED.fullmatch(line)
    return None if whole is None else whole[1].replace(b'""', b'"')


def unwrapped(block: Block) -> bytes | None:
    """The lines of a block, each unwrapped; None if one of them cannot be."""
    if b'"' not in block.data:
        return block.data
    if _only_wrapping(block):
        return block.data.translate(None, b'"')
    lines = [unwrapped_line(line.removesuffix(b"\r")) for line in block.data.split(b"\n")[:-1]]
    found = [line for line in lines if line is not None]
    return b"".join(line + b"\n" for line in found) if len(found) == len(lines) else None


def _only_wrapping(block: Block) -> bool:
    """Whether every quote of the block is the first or the last character of a wrapped line; without a loop."""
    data = np.frombuffer(block.data, np.uint8)
    starts = block.starts - block.starts[0]
    lasts = np.append(starts[1:], data.size) - 2
    lasts -= data[lasts] == _RETURN
    wrapped = (data[starts] == _QUOTE) & (data[lasts] == _QUOTE) & (lasts > starts)
    return block.data.count(b'"') == 2 * np.count_nonzero(wrapped)

"""How numeric kernels are compiled: once, cached on disk, and free of the interpreter's lock.

Here: the decorators. Not here: any kernel. Only kernel modules import this, and they are themselves imported
inside the functions that need them, because numba costs a run worker half a second.

The cache notices a change of the kernel's own file only, so a kernel calls nothing from another file, and after
a change here the `__pycache__` folders have to go.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

_REORDERED: Final = {"reassoc", "contract", "nsz"}
"""Sums may be reordered, so that they vectorise. NaN and infinity keep their meaning, and the order depends on an
array's length alone, never on where it lies in memory: equal samples give equal bits."""


def _compile(function: F, fastmath: set[str] | bool) -> F:
    kernel: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=fastmath)(function)
    return cast("F", kernel)


def compiled(function: F) -> F:
    """`function` as a kernel: nopython, nogil, cached, sums reordered, division by zero gives infinity."""
    return _compile(function, _REORDERED)


def compiled_in_order(function: F) -> F:
    """The same, but every operation stays where it was written: for code that counts on how it rounds."""
    return _compile(function, False)

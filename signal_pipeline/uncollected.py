"""Imports without the cyclic garbage collector, which would look through all modules again and again.

For the doors, whose first statement is to import thousands of modules: a quarter of the CPU of a start. Not for
modules that somebody else's program imports: the collector is that program's.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection meanwhile; what is there afterwards stays for ever, and is not looked through again.

    A collector that its program has switched off stays off.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()

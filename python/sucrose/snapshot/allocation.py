"""Making many small objects without paying for the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """No cyclic collection inside the block.

    Planning makes a few objects per tensor and no cycles. Every few hundred of them would start a
    collection, and those that reach the oldest generation walk all of torch's own objects.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

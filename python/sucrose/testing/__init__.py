"""Faults on purpose: for tests of this package, and of programs that save with it.

Every call that the package makes to the system, in C++ and in Python alike, passes a *site* with a name. While one
of the functions below is active, calls at a site fail, fall short, end the process or are counted; `crash` writes down
what happens to the files below a folder, and replays every state in which a power cut may leave them. Calls that
other packages and the program itself make are left alone.

Sites: see `SITES`. Nothing here is active unless a test asks for it, and nothing in the environment turns it on.
The native core must be there; both engines are covered.
"""

from __future__ import annotations

from sucrose.testing import crash
from sucrose.testing.faults import (
    SITES,
    Injection,
    count_calls,
    inject,
    kill,
    short_transfers,
    shuffled_completions,
)

__all__ = [
    "SITES",
    "Injection",
    "count_calls",
    "crash",
    "inject",
    "kill",
    "short_transfers",
    "shuffled_completions",
]

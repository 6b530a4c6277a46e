"""What becomes of scenarios when the program ends, or is asked to.

1. Epochs that are finished and not written are written at the end of the program, however it comes: by
   itself, an exception, `sys.exit`, Ctrl-C, SIGTERM. Not in forked children.
2. SIGTERM does that at once and ends the program with status 143, as long as the thread has no boundaries.
3. With boundaries, SIGTERM is noted, and the program goes on to the next one. Everything fits together there: a
   checkpoint in the middle of the epoch is written, and the program ends with status 143. A thread that is not
   the main one ends itself; the main thread waits for the boundaries of the others first.
4. A signal of `SUCROSE_WARN_SIGNALS` has a checkpoint written at the next boundary, or at the end of the epoch, and
   the program goes on.
5. Whether a boundary will come nobody can know: before the first batch, or in an evaluation by a loader
   that is not tracked, SIGTERM waits as well. The end of an epoch is a boundary, so what waits is rarely more
   than an evaluation. When no more of `SUCROSE_GRACE_S` is left than the saves will take, 2 happens.
6. Several ranks stop at a boundary of all, whichever of them SIGTERM has come to: see agreed_boundaries.py.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sucrose.state import stopping
from sucrose.state.triggers import add_last_save, remove_last_save
from sucrose.state.triggers.process import PROCESS

if TYPE_CHECKING:
    from sucrose.state.triggers.participants import LastSave


def on_leaving(participant: LastSave) -> None:
    """From here on `participant` is saved at the end. In the thread that works with it.

    Raises:
        ConfigError: an option in the environment is malformed.
    """
    add_last_save(participant)


def has_left(participant: LastSave) -> None:
    """It has nothing to save any more. With the last one of its thread, that thread's boundaries end."""
    remove_last_save(participant)


def use_boundaries() -> None:
    """This thread calls `at_boundary`, as long as one of its participants has not left.

    Raises:
        ConfigError: an option in the environment is malformed.
    """
    stopping.save_only_at_boundaries(to_the_end=False)


def at_boundary() -> None:
    """Does what has waited for a boundary of this thread.

    Raises:
        SystemExit: with status 143, when SIGTERM came; everything is saved.
    """
    stopping.at_boundary()


def stop_at_boundary() -> None:
    """The same where another rank was told to end, and this one ends with it.

    Raises:
        SystemExit: with status 143; everything is saved.
    """
    if not is_called_off():
        signal.raise_signal(signal.SIGTERM)
    stopping.at_boundary()


def is_called_off() -> bool:
    """Whether SIGTERM came, and the program goes on to a boundary only."""
    return PROCESS.must_stop


def warnings() -> int:
    """How many of the signals of `SUCROSE_WARN_SIGNALS` have come: what can be saved is saved then, at a boundary."""
    return PROCESS.warnings

"""Whether the program has come to the end of its main thread."""

from __future__ import annotations

import threading


def main_thread_has_ended() -> bool:
    """Whether Python has left the program, and waits for other threads or runs `atexit` handlers.

    Up to Python 3.12 `is_alive` is no way to ask that in the main thread: Ctrl-C in the middle of it
    marks the thread as ended for good, and at its end Python then waits for no other thread.
    """
    main = threading.main_thread()
    is_stopped: bool | None = getattr(main, "_is_stopped", None)
    return not main.is_alive() if is_stopped is None else is_stopped

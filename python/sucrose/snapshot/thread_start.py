"""Starting a thread that the end of the program waits for, where a signal may come at any moment.

`threading.Thread.start` waits for the new thread, in Python code. An exception of a signal handler in
there, Ctrl-C mostly, can leave a lock taken for which the new thread then waits for ever, and the end of the
program with it. Handlers run in the main thread only: so the start is made in a thread of its own, and the
caller waits for that in a single call.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable


def start_thread(work: Callable[[], object], name: str, *, daemon: bool = False) -> bool:
    """Runs `work` in a new thread; False where there can be none: too many, or the interpreter ends."""
    ended = _thread.allocate_lock()
    ended.acquire()
    failures: list[RuntimeError] = []

    def start() -> None:
        try:
            threading.Thread(target=work, name=name, daemon=daemon).start()
        except RuntimeError as error:
            failures.append(error)
        finally:
            ended.release()

    try:
        _thread.start_new_thread(start, ())
    except RuntimeError:
        return False
    ended.acquire()
    return not failures

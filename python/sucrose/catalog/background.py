"""Collections behind the program's back: one daemon thread for all catalogs of the process.

1. `request` notes what is to be collected, at most once for each catalog and its rules, and starts the
   thread where none is at work.
2. The thread collects until nothing is noted any more, and ends.
3. The end of the process waits a moment for it, and not for the removal of a terabyte: whatever is left,
   the next collection finds.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from sucrose.catalog.collecting import collect

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.retention import Retention

logger = logging.getLogger(__name__)

_POLL_S = 0.005
_LEAVE_WITHIN_S = 1.0


class BackgroundCollector:
    """Thread-safe; may be used in a signal handler. What is shared changes by single operations of a dict."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, Retention], CatalogDirectory] = {}
        self._at_work = threading.Lock()
        """Held by the one thread that collects."""

    def request(self, directory: CatalogDirectory, retention: Retention) -> None:
        """Step 1. A save that is committed does not fail for what is older: this raises nothing."""
        self._requests[directory.root, retention] = directory
        self._set_to_work()

    def wait_idle(self, timeout_s: float | None = None) -> bool:
        """Blocks until nothing is left to collect; False on time-out, or where no thread can be started."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while self._requests or self._at_work.locked():
            # Again: whoever requested it may have been interrupted.
            if not self._set_to_work() or time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def forget_inherited(self) -> None:
        """In a forked child, which has none of the threads."""
        self._requests = {}
        self._at_work = threading.Lock()

    def _set_to_work(self) -> bool:
        if not self._requests or self._at_work.locked():
            return True
        try:
            threading.Thread(target=self._work, name="sucrose-collect", daemon=True).start()
        except RuntimeError as error:  # too many threads, or the interpreter does not start any more
            if error.__context__ is not None:  # Ctrl-C, of which threading makes this
                raise error.__context__ from None
            logger.debug("collections wait for the next save: %s", error)
            return False
        return True

    def _work(self) -> None:
        # Who finds the lock taken may leave: its holder looks at the requests once more after releasing it.
        while self._requests and self._at_work.acquire(blocking=False):
            try:
                while self._requests:
                    with suppress(KeyError):  # emptied between the two
                        (_, retention), directory = self._requests.popitem()
                        _collect(directory, retention)
            finally:
                self._at_work.release()


def _collect(directory: CatalogDirectory, retention: Retention) -> None:
    try:
        report = collect(directory, retention)
    except Exception as error:  # noqa: BLE001 - nobody waits for it, and the next collection tries again
        logger.warning("collecting %s failed; the next save tries again: %s", directory.root, error)
    else:
        if report.removed or report.leftovers:
            logger.info(
                "collected %s: %d generations, %d leftovers", directory.root, len(report.removed), len(report.leftovers)
            )


COLLECTOR = BackgroundCollector()
"""The one of this process."""


def _leave() -> None:
    COLLECTOR.wait_idle(_LEAVE_WITHIN_S)


atexit.register(_leave)
os.register_at_fork(after_in_child=COLLECTOR.forget_inherited)

"""A progress bar for verifications, on a terminal and nowhere else."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sucrose.config.plain_values import printable
from sucrose.interchange.verification import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from sucrose.interchange.verification import Watcher
    from sucrose.interchange.watched_engine import Advance


class _Bars:
    """One bar at a time, gone before a verdict is told: that would be written behind the bar. Bars are thread-safe."""

    def __init__(self) -> None:
        self._shown: Progress | None = None

    def begin(self, path: str, nbytes: int) -> Advance:
        """A bar for another checkpoint."""
        from rich.markup import escape

        self.end()
        self._shown = progress = _new_progress()
        task = progress.add_task(escape(printable(os.path.basename(path))), total=nbytes)
        progress.start()
        return lambda more: progress.advance(task, more)

    def end(self) -> None:
        """Takes the bar away, where there is one."""
        if self._shown is not None:
            self._shown.stop()
            self._shown = None


@contextmanager
def shown_progress() -> Iterator[Watcher]:
    """What to hand to `verify_path`; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield Silent()
        return
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.end()


def _new_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)

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
    """One bar at a time, gone when the next one begins. Thread-safe, as the progress is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, path: str, nbytes: int) -> Advance:
        """A bar for another checkpoint."""
        from rich.markup import escape

        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        name = escape(printable(os.path.basename(path)))
        task = self._progress.add_task(name, total=nbytes)
        return lambda more: self._progress.advance(task, more)


@contextmanager
def shown_progress() -> Iterator[Watcher]:
    """What to hand to `verify_path`; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bars(progress)

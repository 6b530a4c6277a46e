"""The writer of a scenario."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import scalar

from sucrose.scenarios.tensorboard.beginning import Beginning
from sucrose.scenarios.tensorboard.event_file import EventFile, NoFile
from sucrose.scenarios.tensorboard.going_back import go_back, hide_from
from sucrose.scenarios.tensorboard.hparams import hparams_summaries
from sucrose.scenarios.tensorboard.log_folder import mark, sizes
from sucrose.storage.leases import Lease, lease

logger = logging.getLogger(__name__)


class RunWriter(FileWriter):
    """What is logged to one folder."""

    def __init__(self, event_writer: EventFile | NoFile) -> None:
        # Not the base's: that would make a file with a thread of its own.
        self.event_writer: Any = event_writer


class ScenarioWriter(SummaryWriter):
    """A `torch.utils.tensorboard.SummaryWriter` whose curves fit to a checkpoint; `start_writer` makes one.

    Thread-safe. Each event is in its file when the call that logs it returns. In a forked child it writes nothing.

    Example:
        >>> import tempfile
        >>> from sucrose.scenarios.tensorboard import start_writer
        >>> folder = tempfile.mkdtemp()
        >>> with start_writer(folder) as writer:
        ...     for step in range(5):
        ...         writer.add_scalar("loss", 1 / (step + 1), step)
        ...         if step == 2:
        ...             saved = writer.positions()  # with a checkpoint
        >>> with start_writer(folder, step=2, positions=saved) as writer:  # steps 3 and 4 come again
        ...     writer.add_scalar("loss", 0.25, 3)
    """

    # Those of the base, which has no types: None while it is closed.
    all_writers: Any
    file_writer: Any

    def __init__(
        self,
        log_dir: str,
        *,
        step: int | None,
        positions: Mapping[str, int] | None,
        found: Collection[str] | None,
        config: Mapping[str, Any],
        purge_step: int | None = None,
        **kw: Any,
    ) -> None:
        self._folder = os.path.abspath(log_dir)
        self._config = config
        self._own_files = None if found is None else set(found)
        """Event files that a resume may set aside; None for all."""
        self._lock = threading.RLock()
        self._lease: Lease | None = None
        self._beginnings: dict[str, Beginning] = {}
        self._is_forked = False
        self.all_writers = self.file_writer = None
        self._take_over()
        self._go_back(step, positions, purge_step)
        super().__init__(log_dir, **kw)
        self.purge_step = step if purge_step is None else purge_step
        self._open_known()

    def resume(self, *, step: int | None, positions: Mapping[str, int] | None) -> None:
        """Goes back to a checkpoint that was loaded after the writer was started.

        Args:
            step: as for `start_writer`.
            positions: as for `start_writer`.

        Raises:
            OSError: the logs cannot be read or written.
        """
        with self._lock:
            self.close()
            self._go_back(step, positions, None)
            self._open_known()

    def positions(self) -> dict[str, int]:
        """How long each event file of the run is, sub-folders included, for the checkpoint that is being saved.

        All of it survives a power cut once this has returned. Where that fails, a warning is logged: a checkpoint is
        worth more than its curves.

        Returns:
            Bytes by path relative to the folder of the run.
        """
        with self._lock:
            for writer in self._opened():
                if isinstance(writer.event_writer, EventFile):
                    try:
                        writer.event_writer.sync()
                    except OSError as error:
                        logger.warning("curves may be lost in a power cut, or are lost already: %s", error)
        return sizes(self._folder)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """As `SummaryWriter.add_scalars`: one run for each value, in folders ``<main_tag>_<tag>``."""
        with self._lock:
            for tag in tag_scalar_dict:
                self._writer_in(f"{main_tag.replace('/', '_')}_{tag}")
            super().add_scalars(main_tag, tag_scalar_dict, global_step, walltime)

    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any] | None = None,
        metric_dict: Mapping[str, Any] | Iterable[str] | None = None,
        hparam_domain_discrete: Mapping[str, Sequence[Any]] | None = None,
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """Shows hyperparameters in TensorBoard's table, with the curves of this very run beside them.

        Once for a run: TensorBoard keeps the first it sees, so that repeating the call after a resume changes nothing.

        Args:
            hparam_dict: values by name; those that are neither finite numbers, strings nor booleans are shown as
                text. The fields of the scenario's configuration by default.
            metric_dict: names of curves the table shows, or final values by name, which are logged as scalars. By
                default the table shows all scalars of the run.
            hparam_domain_discrete: all values that a hyperparameter can have, by name.
            run_name: a sub-folder to write to instead, as a run of its own.
            global_step: step of the final values.

        Raises:
            TypeError: `hparam_domain_discrete` does not fit to the hyperparameters.
        """
        values = self._config if hparam_dict is None else hparam_dict
        summaries = hparams_summaries(values, metric_dict, hparam_domain_discrete)
        if isinstance(metric_dict, Mapping):
            summaries += [scalar(*item) for item in metric_dict.items()]  # type: ignore[no-untyped-call]  # torch
        writer = self._writer_in(run_name or "")
        for summary in summaries:
            writer.add_summary(summary, global_step)

    def flush(self) -> None:
        """Does nothing: what was logged is in the files."""

    def close(self) -> None:
        """Closes the files; logging afterwards opens new ones."""
        with self._lock:
            super().close()
            if self._lease is not None:
                self._lease.release()
                self._lease = None

    def _take_over(self) -> None:
        """Two writers of one process in one folder: the earlier one is done."""
        for earlier in list(_writers):
            if earlier._folder == self._folder:  # noqa: SLF001 - of this class
                earlier.close()
        _writers.add(self)

    def _go_back(self, step: int | None, positions: Mapping[str, int] | None, purge_step: int | None) -> None:
        mark(self._folder)
        if purge_step is not None:
            self._beginnings = hide_from(self._folder, purge_step)
        elif positions is not None:
            self._beginnings = go_back(self._folder, positions, step or 0, self._own_files)
        elif step is not None:
            # Most programs log the events of step N before they save the checkpoint of step N.
            self._beginnings = hide_from(self._folder, step + 1)

    def _open_known(self) -> None:
        """Opens a file in each folder of which TensorBoard may have to forget something."""
        for folder in ["", *self._beginnings]:
            self._writer_in(folder)

    def _get_file_writer(self) -> Any:
        return self._writer_in("")  # what all methods of the base begin with

    def _writer_in(self, folder: str) -> Any:
        """The writer of a folder below the run's; made where there is none."""
        with self._lock:
            logdir = str(self.log_dir)
            if self.all_writers is None or self.file_writer is None:
                self.file_writer = self._open(logdir, "")
                self.all_writers = {logdir: self.file_writer}
            key = f"{logdir}/{folder}" if folder else logdir  # as the base calls them
            if key not in self.all_writers:
                self.all_writers[key] = self._open(key, folder)
            return self.all_writers[key]

    def _open(self, logdir: str, folder: str) -> RunWriter:
        if self._is_forked:
            return RunWriter(_no_file_in_child(logdir))
        if self._lease is None:
            self._lease = lease(self._folder)
        beginning = self._beginnings.get(folder, Beginning())
        file = EventFile(os.path.normpath(os.path.join(self._folder, folder)), logdir, self.filename_suffix, beginning)
        self._beginnings.pop(folder, None)
        if self._own_files is not None:
            self._own_files.add(os.path.relpath(file.path, self._folder))
        return RunWriter(file)

    def _opened(self) -> list[RunWriter]:
        return list((self.all_writers or {}).values())

    def _become_silent(self) -> None:
        """In a forked child: another thread may have held the lock, and the files are its parent's."""
        self._is_forked = True
        self._lock = threading.RLock()
        self._lease = None
        for writer in self._opened():
            inherited = writer.event_writer
            if isinstance(inherited, EventFile):
                inherited.abandon()
                writer.event_writer = _no_file_in_child(inherited.get_logdir())


def _no_file_in_child(logdir: str) -> NoFile:
    return NoFile(
        logdir,
        f"process {os.getpid()} was forked from the one that writes to {logdir}: what it logs is not written",
    )


_writers: WeakSet[ScenarioWriter] = WeakSet()


def _silence_children() -> None:
    for writer in list(_writers):
        writer._become_silent()  # noqa: SLF001 - of this file


os.register_at_fork(after_in_child=_silence_children)

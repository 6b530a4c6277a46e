"""`CheckpointFolder`: all checkpoints of one scenario, for writing and reading."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from sucrose.catalog.agreement import check_is_shared
from sucrose.catalog.retention import Retention
from sucrose.errors import ConfigError
from sucrose.formats.manifest import METADATA_FILE
from sucrose.scenarios.checkpoint_names import CheckpointNames
from sucrose.scenarios.checkpoints.claim import FolderClaim
from sucrose.scenarios.checkpoints.files import write_file
from sucrose.scenarios.checkpoints.loading import Loaded, load_epoch, load_newest
from sucrose.scenarios.checkpoints.moving import quarantine, set_aside
from sucrose.scenarios.checkpoints.retaining import Retaining
from sucrose.scenarios.checkpoints.snapshots import begin_snapshot
from sucrose.scenarios.ranks import Together, number_of_rank_0, shown_alive
from sucrose.scenarios.record import Record
from sucrose.scenarios.replicated import Replicated

if TYPE_CHECKING:
    from sucrose.snapshot.pending import PendingSnapshot

_PATIENCE_S = 2.0
_POLL_S = 0.05


class CheckpointFolder:
    """Writes and reads the checkpoints of one scenario, which one process writes.

    For one thread, and for signal handlers in the middle of whatever it does.

    Args:
        names: of the checkpoints.
        keep: rules for those of epochs, counted in epochs.

    Example:
        >>> import tempfile, torch
        >>> from sucrose import Retention
        >>> from sucrose.scenarios.checkpoint_names import CheckpointNames
        >>> from sucrose.scenarios.checkpoints import CheckpointFolder
        >>> from sucrose.scenarios.record import Record
        >>> names = CheckpointNames(tempfile.mkdtemp(), "base_case1", "e", ".pt")
        >>> folder = CheckpointFolder(names, Retention(keep_last=2))
        >>> for epoch in (1, 2, 3):
        ...     record = Record(epoch=epoch, step=epoch * 5, is_mid_epoch=False, saved_ns=0, config={}, overrides=(),
        ...                     metrics={"loss": 1 / epoch}, logs={})
        ...     folder.write({"weight": torch.full((2,), float(epoch))}, record)
        >>> names.epochs()
        [2, 3]
        >>> folder.read().contents
        {'weight': tensor([3., 3.])}
    """

    def __init__(self, names: CheckpointNames, keep: Retention) -> None:
        self.names = names
        self.keep = keep
        self._retaining = Retaining(names, keep)
        self._pending: deque[PendingSnapshot] = deque()
        self._pid = os.getpid()
        self._claim = FolderClaim(names.folder)

    def write(
        self,
        contents: Mapping[str, Any],
        record: Record,
        *,
        together: Together | None = None,
        replicated: Replicated | None = None,
    ) -> None:
        """Writes a checkpoint, in place of one with its name, and removes what is kept no longer.

        A file is there and durable when this returns. A snapshot is so later, after those before it; `contents` may be
        changed as soon as this returns.

        Args:
            contents: objects by name.
            record: says which epoch it is.
            together: the call of all ranks that this is part of; None where this process writes by itself. A file is
                written by rank 0, and all ranks return when it is there; a snapshot is written by all.
            replicated: what ranks have alike.

        Raises:
            NotDurableError: the file is in place, but its folder could not be fsynced.
            UnsupportedError: something in `contents` or `record` cannot be saved.
            OSError: it cannot be written; nothing has changed. Or, for snapshots, an earlier one has failed in the
                background and this one was not begun.
            RankError: another rank has failed.
        """
        self._raise_failed()
        together = together or Together.alone()
        exchange = together.exchange
        if exchange.rank == 0:
            self._claim.take()
        epoch, is_mid_epoch = record.epoch, record.is_mid_epoch
        path = self.names.mid_path_of(epoch) if is_mid_epoch else self.names.path_of(epoch)

        def committed() -> None:
            spared = {pending.path for pending in self._pending.copy() if not pending.done()} - {path}
            self._retaining.committed(epoch, is_mid_epoch=is_mid_epoch, spared=spared)

        if self.names.are_snapshots:
            if exchange.rank == 0:
                _clear(path)
            exchange.agree("all are about to save")  # an error from here on is told in the save itself
            self._pending.append(
                begin_snapshot(
                    path, contents, record, committed, ranks=together.ranks, replicated=replicated or Replicated()
                )
            )
        else:
            if exchange.rank == 0:
                with shown_alive(exchange):
                    write_file(path, contents, record)
                    committed()
            exchange.agree("the file is written")
            check_is_shared(exchange, None if _is_seen(path) else FileNotFoundError(errno.ENOENT, ""), path)
            exchange.agree("all ranks see the file")
        if exchange.rank == 0:
            self._claim.take()  # the folder may be new

    def is_better(self, record: Record) -> bool:
        """Whether an epoch with this record would be among the best that are kept."""
        return self._retaining.is_better(record.metrics)

    def read(
        self,
        epoch: int | Literal["best"] | None = None,
        *,
        loader_kwds: Mapping[str, Any] | None = None,
        together: Together | None = None,
        in_place: Mapping[str, Any] | None = None,
    ) -> Loaded | None:
        """Reads a checkpoint, into new tensors.

        Args:
            epoch: number of finished epochs; or ``"best"`` by the rule of `keep`; or None, the newest that is sound,
                be it in the middle of an epoch. Damaged ones are then moved to ``quarantine/``, with a warning.
            loader_kwds: arguments of `torch.load`, such as `map_location` and `weights_only`, which is on by default.
            together: the call of all ranks that this is part of: rank 0 chooses what all of them read.
            in_place: objects that a snapshot is read into, and which are not among the contents then.

        Returns:
            None where `epoch` is None and there is no checkpoint.

        Raises:
            FileNotFoundError: there is no checkpoint of this epoch, or none to be the best.
            ConfigError: `keep` has no rule for the best, or `loader_kwds` do not go with snapshots.
            CorruptionError: the checkpoint, or for the newest every one that there is, is damaged.
            UnsafeObjectError: `weights_only` refuses an object in it.
        """
        self.wait()
        together = together or Together.alone()
        options = loader_kwds or {}
        if epoch is None:
            return load_newest(self.names, options, together, in_place or {})
        exchange = together.exchange
        if epoch == "best":
            epoch = number_of_rank_0(exchange, "best epoch", self._best() if exchange.rank == 0 else 0)
        return load_epoch(self.names, epoch, options, together, in_place or {})

    def set_aside_after(self, epoch: int) -> None:
        """Moves later checkpoints to a folder ``superseded-<n>``, with a warning: the program has gone back on purpose.

        They are gone for good when this returns: no later checkpoint of the old branch outlives the first one of the
        new. In the middle of this the newest is there still, as if nothing had happened.

        Raises:
            OSError: one of them cannot be moved.
        """
        self.wait()
        later = [(number, self.names.mid_path_of(number)) for number in self.names.mid_epochs() if number >= epoch]
        later += [(number, self.names.path_of(number)) for number in self.names.epochs() if number > epoch]
        if later:
            paths = [path for _, path in sorted(later)]
            set_aside(paths, why=f"the program has gone back to epoch {epoch} in {self.names.folder}")

    def wait(self) -> None:
        """Returns when everything that was written is there and durable.

        Raises:
            OSError: something could not be written. Again where that is true of several.
        """
        while self._own_pending():
            pending = self._pending[0]
            try:
                pending.wait()
            except Exception:
                self._forget(pending)
                raise
            self._forget(pending)

    def close(self) -> None:
        """Nothing is written from here on."""
        self._claim.release()

    def _best(self) -> int:
        rule = self.keep.keep_best
        if rule is None:
            raise ConfigError(
                "epoch='best' needs a rule for what is the best: set keep.best.metric in the domain 'workspace'"
            )
        best = self._retaining.best()
        if not best:
            raise FileNotFoundError(
                errno.ENOENT,
                f"no checkpoint has the metric {rule[0]!r} of keep.best, so none is the best",
                self.names.folder,
            )
        return best[0].info.epoch

    def _raise_failed(self) -> None:
        for pending in list(self._own_pending()):
            if pending.done():
                self._forget(pending)
                pending.wait()

    def _own_pending(self) -> deque[PendingSnapshot]:
        if self._pid != os.getpid():  # a forked child: they go on in the parent alone
            self._pending = deque()
            self._pid = os.getpid()
        return self._pending

    def _forget(self, pending: PendingSnapshot) -> None:
        with suppress(ValueError):  # a signal handler was faster
            self._pending.remove(pending)


def _is_seen(path: str) -> bool:
    """Whether a file of another process is there; clients of network file systems may take a while to see it."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (found := os.path.exists(path)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return found


def _clear(path: str) -> None:
    """Makes room where something is that a snapshot must not replace: a damaged one, mostly."""
    if os.path.lexists(path) and not os.path.exists(os.path.join(path, METADATA_FILE)):
        quarantine(path, "it is no complete snapshot, and stood where a new one was to be written")

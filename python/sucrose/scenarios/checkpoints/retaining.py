"""What goes once a checkpoint is committed.

1. Checkpoints in the middle of an epoch that the new one has made useless.
2. Epochs that no rule keeps. Only those count that scenarios have written and whose structure is sound: what others
   have put there is left alone, and a damaged one is no reason to let go of one that is not.
3. What dead writers have left.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sucrose.catalog.retention import Retention
from sucrose.scenarios.checkpoint_names import CheckpointNames
from sucrose.scenarios.checkpoints.listing import CheckpointInfo, checkpoint_at
from sucrose.scenarios.checkpoints.removal import remove, remove_leftovers
from sucrose.scenarios.record import Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EpochCandidate:
    """An epoch's checkpoint as `Retention` looks at it: counted in epochs."""

    info: CheckpointInfo
    record: Record

    @property
    def id(self) -> str:
        """Its path."""
        return self.info.path

    @property
    def order(self) -> int:
        """Later epochs are newer, whenever they were written."""
        return self.info.epoch

    @property
    def step(self) -> int:
        """The epoch."""
        return self.info.epoch

    @property
    def committed_ns(self) -> int:
        """When it was saved."""
        return self.info.saved_ns

    @property
    def pinned(self) -> bool:
        """Never."""
        return False

    @property
    def metrics(self) -> Mapping[str, float]:
        """Those of its record."""
        return self.record.metrics


class Retaining:
    """Applies the rules of one scenario. Thread-safe."""

    def __init__(self, names: CheckpointNames, keep: Retention) -> None:
        self._names = names
        self._keep = keep
        self._known: dict[str, tuple[tuple[int, int, int], CheckpointInfo]] = {}
        """What was found out about a checkpoint, with what tells whether it is still the same."""

    def best(self) -> list[EpochCandidate]:
        """Epochs that the rule for the best keeps, the best first."""
        return self._keep.best(self.candidates())

    def is_better(self, metrics: Mapping[str, float]) -> bool:
        """Whether an epoch with these metrics would be one of the best; of as many as are kept, better than one."""
        rule = self._keep.keep_best
        if rule is None or math.isnan(value := metrics.get(rule[0], math.nan)):
            return False
        best = self.best()
        if len(best) < rule[1]:
            return True
        worst = best[-1].metrics[rule[0]]
        return value > worst if rule[2:] == ("max",) else value < worst

    def candidates(self) -> list[EpochCandidate]:
        """Sound epochs that scenarios have written, the oldest first."""
        known = {}
        for epoch in self._names.epochs():
            path = self._names.path_of(epoch)
            found = self._look_at(path, epoch)
            if found is not None:
                known[path] = found
        self._known = known
        return [EpochCandidate(info, info.record) for _, info in known.values() if info.record is not None]

    def committed(self, epoch: int, *, is_mid_epoch: bool, spared: Collection[str]) -> None:
        """Steps 1 to 3, after the commit of one checkpoint.

        That does not fail for what is older: what cannot be done is said in the log, and tried again the next time.

        Args:
            epoch: of the one that was committed.
            is_mid_epoch: whether it is in the middle of the next.
            spared: paths of others that are being written.
        """
        try:
            self._clean_up(epoch, is_mid_epoch, spared)
        except OSError as error:
            logger.warning(
                "the checkpoints in %s that are kept no longer are still there: %s", self._names.folder, error
            )

    def _clean_up(self, epoch: int, is_mid_epoch: bool, spared: Collection[str]) -> None:
        for mid_epoch in self._names.mid_epochs():
            if mid_epoch < epoch:
                self._remove(self._names.mid_path_of(mid_epoch), spared)
        if not is_mid_epoch and not self._keep.keeps_all:
            candidates = self.candidates()
            kept = self._keep.kept(candidates)
            for candidate in candidates:
                if candidate.id not in kept and candidate.info.epoch != epoch:
                    self._remove(candidate.id, spared)
        remove_leftovers(self._names)

    def _look_at(self, path: str, epoch: int) -> tuple[tuple[int, int, int], CheckpointInfo] | None:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        mark = status.st_ino, status.st_mtime_ns, status.st_size
        known = self._known.get(path)
        if known is not None and known[0] == mark:
            return known
        info = checkpoint_at(self._names, epoch, is_mid_epoch=False)
        return None if info is None else (mark, info)

    def _remove(self, path: str, spared: Collection[str]) -> None:
        if path not in spared:
            remove(path)

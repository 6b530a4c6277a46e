"""Ours and DCP on four ranks that all have the same state."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.contenders.dcp import DistributedCheckpoint
from benchmarks.contenders.sucrose_snapshot import SucroseSnapshot
from benchmarks.files import files_below

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.states import State

WORLD_SIZE = 4


class _OnRanks:
    """Of a contender: its ranks, which have the state from when it was made."""

    rank_pattern: ClassVar[re.Pattern[str]]
    """The names of the files that a rank writes; its first group is the rank."""

    def prepare(self, state: State) -> None:
        from benchmarks.forked_ranks import ForkedRanks

        self._ranks = ForkedRanks(WORLD_SIZE, partial(self._save_as_rank, state))

    def save(self, state: State, path: Path) -> None:  # noqa: ARG002 - the ranks have it
        self._ranks.save(path)

    def rank_nbytes(self, path: Path) -> tuple[int, ...]:
        """Bytes of the files of each rank."""
        nbytes = [0] * WORLD_SIZE
        for file in files_below(path):
            if found := self.rank_pattern.fullmatch(file.relative_to(path).as_posix()):
                nbytes[int(found[1])] += file.stat().st_size
        return tuple(nbytes)

    def _save_as_rank(self, state: State, path: Path) -> None:
        raise NotImplementedError


class SucroseOnRanks(_OnRanks, SucroseSnapshot):
    name = "sucrose, 4 ranks"
    note = 'Snapshot.take(replicated=["**"]) on 4 ranks; one process restores in place'
    rank_pattern = re.compile(r"data/(\d+)_\d+\.safetensors")

    def _save_as_rank(self, state: State, path: Path) -> None:
        self._snapshot.take(str(path), self._app_state(state), replicated=["**"])


class DistributedCheckpointOnRanks(_OnRanks, DistributedCheckpoint):
    name = "DCP, 4 ranks"
    note = "torch.distributed.checkpoint.save on 4 ranks, which deduplicates as it comes; one process restores in place"
    rank_pattern = re.compile(r"__(\d+)_\d+\.distcp")

    def _save_as_rank(self, state: State, path: Path) -> None:
        self._dcp.save(dict[str, Any](state), checkpoint_id=path)

"""The ranks of a process group, and how messages name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The ranks of a group, as one of them sees it.

    Attributes:
        rank: this one.
        global_ranks: the rank in the job of each.
    """

    rank: int
    global_ranks: tuple[int, ...]

    @property
    def world_size(self) -> int:
        """How many there are."""
        return len(self.global_ranks)

    def name(self, ranks: Sequence[int]) -> str:
        """Ranks in words: ``"rank 3"``, ``"ranks 1, 2"``, and where the job numbers them otherwise, how."""
        named = [self._name_one(rank) for rank in ranks[:_MOST_NAMED]]
        if len(ranks) > _MOST_NAMED:
            named.append(f"{len(ranks) - _MOST_NAMED} more")
        return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(named)}"

    def _name_one(self, rank: int) -> str:
        in_job = self.global_ranks[rank]
        return str(rank) if in_job == rank else f"{rank} (of the job {in_job})"

"""How the files of a scenario are named, and which there are.

``base_case1_e10.pt`` holds the state after ten epochs, ``base_case1_e10.mid.pt`` that of a moment in the
eleventh. A name counts only as a whole: leftovers such as ``base_case1_e500.pt.tmp`` are nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_MID = ".mid"


@dataclass(frozen=True, slots=True)
class CheckpointNames:
    """Names below one folder. Looks at names only, never into files.

    Attributes:
        folder: where the checkpoints lie; it need not exist.
        stem: the scenario's name with ``_`` for ``/``.
        epoch_prefix: stands before the number of epochs.
        extension: with its dot. ``.snapshot`` means folders.
    """

    folder: str
    stem: str
    epoch_prefix: str
    extension: str

    @property
    def are_snapshots(self) -> bool:
        """Whether checkpoints are snapshots, and not single files."""
        return self.extension == ".snapshot"

    def path_of(self, epoch: int) -> str:
        """The checkpoint after `epoch` epochs."""
        return os.path.join(self.folder, f"{self.stem}_{self.epoch_prefix}{epoch}{self.extension}")

    def mid_path_of(self, epoch: int) -> str:
        """The checkpoint in the middle of the epoch that follows after `epoch` epochs."""
        return os.path.join(self.folder, f"{self.stem}_{self.epoch_prefix}{epoch}{_MID}{self.extension}")

    def epochs(self) -> list[int]:
        """Numbers of the epochs that have a checkpoint, ascending."""
        return self._numbers("")

    def mid_epochs(self) -> list[int]:
        """Numbers of finished epochs of the checkpoints in the middle of one, ascending."""
        return self._numbers(_MID)

    def newest(self) -> int:
        """The largest number of finished epochs that has a checkpoint; 0 where there is none."""
        return max(self.epochs(), default=0)

    def _numbers(self, mid: str) -> list[int]:
        pattern = re.compile(
            re.escape(f"{self.stem}_{self.epoch_prefix}") + "(0|[1-9][0-9]{0,17})" + re.escape(mid + self.extension)
        )
        matches = (pattern.fullmatch(entry.name) for entry in self._entries())
        return sorted(int(match[1]) for match in matches if match)

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder) as entries:
                return [entry for entry in entries if entry.is_dir() == self.are_snapshots]
        except FileNotFoundError:
            return []


def find_latest_epoch(folder: str | os.PathLike[str], name: str, *, epoch_prefix: str = "e", ext: str = ".pt") -> int:
    """The number of epochs after which the newest checkpoint in a folder was written; 0 where there is none.

    Args:
        folder: that of the checkpoints, such as ``workspace/ckpts/base/case1``.
        name: of the scenario, such as ``base/case1``.
        epoch_prefix: as in the `workspace` domain.
        ext: as `ckpts_extension` there.

    Example:
        >>> import sucrose
        >>> sucrose.find_latest_epoch("/tmp/no/such/folder", "base/case1")
        0
    """
    return CheckpointNames(os.fspath(folder), stem_of(name), epoch_prefix, ext).newest()


def stem_of(name: str) -> str:
    """A scenario's name as the beginning of file names."""
    return name.replace("/", "_")

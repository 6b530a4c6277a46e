"""What a resume does to the logs of attempts that it goes back behind.

1. Nobody else may be writing here: the folder's lease says so. Otherwise nothing is touched.
2. Files that an earlier resume has cut shorter than the checkpoint knows them get back what they lack: a program can
   load the newest checkpoint after an older one. Nobody appends to a file that was cut, so it is still the same.
3. Each event file has a *cut*: how long it was when the checkpoint was saved, at the border of a record; 0 for files
   that were not there. What a writer of the program's own has begun since the run was started has none.
4. What lies behind the cuts is copied into ``superseded-<n>/``, under names that TensorBoard does not load, and
   fsynced.
5. Only then are the files truncated. A file that is cut at 0 stays, empty: a TensorBoard that is reading it
   could not go on to the next one if it were gone.

A crash before step 5 leaves the logs as they were, and one in the middle of it leaves cuts to be done: the next resume
does all of that, and may copy a piece a second time. No step changes what lies before a cut.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sucrose.scenarios.tensorboard.beginning import Beginning, beginning_after
from sucrose.scenarios.tensorboard.event_file import OPENING
from sucrose.scenarios.tensorboard.event_heads import read_heads
from sucrose.scenarios.tensorboard.log_folder import event_files, folders
from sucrose.scenarios.tensorboard.superseded import bring_back, copy_tail, new_superseded_folder, sync
from sucrose.storage.leases import lease_for_removal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A file, of which what lies behind `offset` is superseded.

    Attributes:
        path: relative to the folder of logs.
        offset: at the border of a record.
        highest_kept: highest step of an event before it.
        lowest_superseded: lowest step of an event behind it.
        is_needed: whether there is anything behind it that a user would miss or see.
    """

    path: str
    offset: int
    highest_kept: int | None
    lowest_superseded: int | None
    is_needed: bool


def go_back(
    log_dir: str, positions: Mapping[str, int], step: int, own_files: Collection[str] | None = None
) -> dict[str, Beginning]:
    """Sets aside what was logged after a checkpoint.

    Args:
        log_dir: the run's folder.
        positions: how long each event file was when the checkpoint was saved, by path relative to `log_dir`.
        step: the checkpoint's.
        own_files: event files, relative to `log_dir`, that the run has written. Those that are neither among them
            nor in `positions` are of a writer that the program has made since it began, and are not cut. None for all.

    Returns:
        For each folder, how its next event file has to begin.

    Raises:
        OSError: a file cannot be read, copied or truncated.
    """
    lease = lease_for_removal(log_dir)
    if lease is None:
        logger.warning(
            "another process is logging to %s: what it has logged after step %d stays where it is. If both train the "
            "same scenario, end one of them",
            log_dir,
            step,
        )
        return {}
    with lease:
        _remove_unopened(log_dir)
        files = event_files(log_dir)
        cuts = {
            folder: [
                _cut_of(log_dir, path, positions.get(path, 0))
                for path in paths
                if own_files is None or path in own_files or path in positions
            ]
            for folder, paths in files.items()
        }
        _set_aside(log_dir, [cut for of_folder in cuts.values() for cut in of_folder if cut.is_needed])
        beginnings = {
            # A START event would also hide what the program's own writer is about to log.
            folder: _beginning(log_dir, cuts[folder], step) if len(cuts[folder]) == len(paths) else Beginning()
            for folder, paths in files.items()
        }
    return {"": Beginning(step or None), **beginnings}


def hide_from(log_dir: str, step: int) -> dict[str, Beginning]:
    """As `go_back`, where nobody knows the positions: files stay as they are, TensorBoard hides what is later.

    Args:
        log_dir: the run's folder.
        step: the first one to be hidden.
    """
    return dict.fromkeys(["", *event_files(log_dir)], Beginning(step))


def _cut_of(log_dir: str, path: str, position: int) -> _Cut:
    """Looks for the cut of one file; a position within a record, of a program's own writer, keeps that record."""
    full_path = os.path.join(log_dir, path)
    nbytes = bring_back(log_dir, path, position)
    if position > nbytes:
        logger.warning(
            "%s has %d bytes, and had %d when the checkpoint was saved: a part of the curves is lost",
            full_path,
            nbytes,
            position,
        )
    offset = min(position, nbytes)
    end = offset
    highest_kept: int | None = None
    lowest_superseded: int | None = None
    is_needed = False
    for heads in read_heads(full_path):
        are_kept = heads.begins < position
        end = int(heads.ends[-1])
        offset = max(offset, int(heads.ends[are_kept].max(initial=0)))
        highest_kept = _furthest(max, highest_kept, heads.steps[are_kept & heads.are_points])
        superseded = heads.steps[~are_kept & heads.are_points & ~heads.are_hparams]
        lowest_superseded = _furthest(min, lowest_superseded, superseded)
        is_needed = is_needed or bool((heads.have_content | heads.are_starts)[~are_kept].any())
    is_needed = is_needed or end < nbytes  # half a record, of a writer that was killed
    return _Cut(path, offset, highest_kept, lowest_superseded, is_needed)


def _furthest(choose: Callable[[Iterable[int]], int], so_far: int | None, steps: NDArray[np.int64]) -> int | None:
    """The lowest or the highest of all steps; None where there is none."""
    candidates = [] if so_far is None else [so_far]
    if len(steps):
        candidates.append(choose((int(steps.min()), int(steps.max()))))
    return choose(candidates) if candidates else None


def _beginning(log_dir: str, cuts: Sequence[_Cut], step: int) -> Beginning:
    kept = [cut for cut in cuts if cut.offset]
    highest = [cut.highest_kept for cut in kept if cut.highest_kept is not None]
    lowest = [cut.lowest_superseded for cut in cuts if cut.lowest_superseded is not None]
    paths = [os.path.join(log_dir, cut.path) for cut in kept]
    return beginning_after(paths, max(highest, default=None), min(lowest, default=None), step)


def _set_aside(log_dir: str, cuts: list[_Cut]) -> None:
    """Steps 4 and 5."""
    if not cuts:
        return
    superseded = new_superseded_folder(log_dir)
    copies = [copy_tail(log_dir, cut.path, cut.offset, superseded) for cut in cuts]
    for folder in [*{os.path.dirname(copy) for copy in copies}, superseded, log_dir]:
        sync(folder)
    for cut in cuts:
        path = os.path.join(log_dir, cut.path)
        os.truncate(path, cut.offset)
        sync(path)
    logger.info("what was logged after the checkpoint is in %s now", superseded)


def _remove_unopened(log_dir: str) -> None:
    """Event files whose writer died before it had opened them."""
    for folder, names in folders(log_dir):
        for name in names:
            if name.startswith(OPENING):
                os.unlink(os.path.join(log_dir, folder, name))

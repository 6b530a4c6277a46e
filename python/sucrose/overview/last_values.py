"""The last values of a scenario's curves, without reading all of its logs.

The newest event file that has scalars tells, and of a long one its end only. Records have no marks at which reading
could begin, but each has a checksum of its length: where that fits, and again where the next record is, one begins.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from sucrose.overview.curves import label_of, own_runs

if TYPE_CHECKING:
    from sucrose.post.series import Series

_TAIL_NBYTES = 64 << 10  # about a thousand scalars
_HEAD_NBYTES = 12
_FRAME_NBYTES = 16
_logger = logging.getLogger(__name__)


def last_values(logs_dir: str, others: Collection[str]) -> Mapping[str, float]:
    """The last value of each curve that was lately written to; none where the logs cannot be read, which is logged.

    Args:
        logs_dir: of the scenario.
        others: folders of other scenarios, which may lie below that one.

    Returns:
        By tag, as `curves_of` names them.
    """
    try:
        return {
            label_of(tag, run): float(series.values[-1])
            for run in own_runs(logs_dir, others)
            for tag, series in _newest_series(run.files).items()
        }
    except (ImportError, OSError) as error:
        _logger.warning("the logs in %s cannot be read: %s", logs_dir, error)
        return {}


def _newest_series(files: Collection[str]) -> dict[str, Series]:
    from sucrose.post.event_scalars import RunScalars

    found: dict[str, Series] = {}
    for path in reversed(list(files)):
        scalars = RunScalars(lambda _: True)
        scalars.read(path, _begin_of_end(path))
        found = scalars.series()
        if found:
            break
    return found


def _begin_of_end(path: str) -> int:
    """Offset of a record, at most `_TAIL_NBYTES` before the end; 0 for a short file, or where none begins there."""
    nbytes = os.path.getsize(path)
    if nbytes <= _TAIL_NBYTES:
        return 0
    with open(path, "rb") as file:
        file.seek(nbytes - _TAIL_NBYTES)
        data = file.read(_TAIL_NBYTES)
    fitting = _fitting(data)
    for begin in sorted(fitting):
        end = begin + _FRAME_NBYTES + int.from_bytes(data[begin : begin + 8], "little")
        if end in fitting or end == len(data):
            return nbytes - len(data) + begin
    return 0


def _fitting(data: bytes) -> set[int]:
    """Offsets of eight bytes that are no great number, and have its checksum behind them."""
    import numpy as np

    from sucrose.scenarios.tensorboard.crc32c import masked_crc32c

    every = np.frombuffer(data, np.uint8)
    n_offsets = len(data) - _HEAD_NBYTES + 1
    is_zero = every == 0
    is_small = np.logical_and.reduce([is_zero[column : column + n_offsets] for column in range(4, 8)])
    offsets = np.flatnonzero(is_small)
    found = every[offsets[:, None] + np.arange(8, 12)].view("<u4")[:, 0]
    expected = masked_crc32c(data, offsets, np.full(len(offsets), 8))
    return set(offsets[found == expected].tolist())

"""Records of an event file, which is framed as a TFRecord file.

A record is its length (8 bytes, little endian), the checksum of those, the payload, and the checksum of that. The
writer may be writing while this reads: a record that is not whole yet is not there.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sucrose.post.crc32c import masked_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_HEAD_NBYTES = 12
_FRAME_NBYTES = 16
_BLOCK_NBYTES = 4 * 2**20
_CHECKED_NBYTES = 4096  # a scalar's record has below a hundred; checksums of long ones would take more than they give
_length_at = struct.Struct("<Q").unpack_from
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Records:
    """Some records of a file, in its order.

    Attributes:
        data: a block of the file.
        spans: begin and end of each payload in `data`.
    """

    data: bytes
    spans: list[tuple[int, int]]


def read_records(path: str, at: int = 0) -> Iterator[Records]:
    """All whole records of at most 4 MiB from offset `at`; larger ones are images and the like, and are passed over.

    A payload with a wrong checksum is left out. After a length with a wrong one nothing can be found any more. Both
    are logged, once each for a file.

    Raises:
        OSError: the file cannot be read.
    """
    n_damaged = 0
    with open(path, "rb") as file:
        while True:
            file.seek(at)
            data = file.read(_BLOCK_NBYTES)
            spans, end = _whole_records(data)
            if spans:
                sound = _with_sound_payload(data, spans)
                n_damaged += len(spans) - len(sound)
                yield Records(data, sound)
                at += end
                continue
            if len(data) < _HEAD_NBYTES:
                break
            if not _has_sound_head(data):
                _logger.warning("%s is damaged at offset %d: what comes after it is not read", path, at)
                break
            at += _FRAME_NBYTES + _length_at(data)[0]  # behind the end, where the record is not whole yet
    if n_damaged:
        _logger.warning("%s: %d of its records are damaged, and left out", path, n_damaged)


def _whole_records(data: bytes) -> tuple[list[tuple[int, int]], int]:
    """Payloads up to the first length with a wrong checksum, and where the last of these records ends."""
    ends = [-4]
    last = len(data)
    at = 0
    while at + _FRAME_NBYTES <= last:
        at += _FRAME_NBYTES + _length_at(data, at)[0]
        if at > last:
            break
        ends.append(at - 4)
    begins = np.array(ends[:-1], np.int64) + (4 + _HEAD_NBYTES)
    heads = masked_crc32c(data, begins - _HEAD_NBYTES, np.full(len(begins), 8))
    wrong = np.flatnonzero(heads != _words(data, begins - 4))
    n_sound = int(wrong[0]) if len(wrong) else len(begins)
    return list(zip(begins[:n_sound].tolist(), ends[1 : n_sound + 1], strict=True)), ends[n_sound] + 4


def _with_sound_payload(data: bytes, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    bounds = np.array(spans, np.int64)
    short = np.flatnonzero(bounds[:, 1] - bounds[:, 0] <= _CHECKED_NBYTES)
    begins, ends = bounds[short, 0], bounds[short, 1]
    wrong = short[masked_crc32c(data, begins, ends - begins) != _words(data, ends)]
    if not len(wrong):
        return spans
    left_out = set(wrong.tolist())
    return [span for index, span in enumerate(spans) if index not in left_out]


def _has_sound_head(data: bytes) -> bool:
    return bool(masked_crc32c(data, np.array([0]), np.array([8]))[0] == struct.unpack_from("<I", data, 8)[0])


def _words(data: bytes, offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Numbers of four bytes that begin anywhere."""
    pieces = np.frombuffer(data, np.uint8)[offsets[:, None] + np.arange(4)]
    words: NDArray[np.uint32] = pieces.view("<u4")[:, 0]
    return words

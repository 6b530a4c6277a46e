"""Records of an event file, which is framed as a TFRecord file.

A record is its length (8 bytes, little endian), the checksum of those, the payload, and the checksum of that. The
writer may be writing while this reads: a record that is not whole yet is not there.
"""

from __future__ import annotations

import logging
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sucrose.scenarios.tensorboard.crc32c import masked_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

HEAD_NBYTES = 12
"""Before the payload."""

TAIL_NBYTES = 4
"""Behind it."""

_FRAME_NBYTES = HEAD_NBYTES + TAIL_NBYTES
_BLOCK_NBYTES = 4 * 2**20
_CHECKED_NBYTES = 4096  # a scalar's record has below a hundred; checksums of long ones would take more than they give
_length_at = struct.Struct("<Q").unpack_from


@dataclass(frozen=True, slots=True)
class Records:
    """Some records of a file, in its order: several whole ones, or the front of a single one that is larger than 4 MiB.

    Attributes:
        data: a block of the file.
        at: the offset of the block.
        begins: where the payloads begin in `data`.
        ends: where they end, which is behind `data` for one that is not whole.
    """

    data: bytes
    at: int
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def is_whole(self) -> bool:
        """Whether the payloads are in `data` to their ends."""
        return bool(self.ends[-1] <= len(self.data))

    @property
    def end(self) -> int:
        """The offset in the file of what comes next."""
        return self.at + int(self.ends[-1]) + TAIL_NBYTES

    def are_sound(self) -> NDArray[np.bool_]:
        """Of each payload, whether its checksum is right; those of long ones count as right."""
        sound = np.ones(len(self.begins), np.bool_)
        lengths = self.ends - self.begins
        short = np.flatnonzero(lengths <= _CHECKED_NBYTES)
        sound[short] = masked_crc32c(self.data, self.begins[short], lengths[short]) == _words(
            self.data, self.ends[short]
        )
        return sound


def read_records(path: str, at: int = 0) -> Iterator[Records]:
    """All whole records from offset `at`. After a length with a wrong checksum nothing can be found any more.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        while True:
            file.seek(at)
            data = file.read(_BLOCK_NBYTES)
            records = _whole_records(data, at)
            if not len(records.begins):
                if len(data) < HEAD_NBYTES:
                    return
                if not _have_sound_heads(data, np.array([HEAD_NBYTES])).all():
                    logger.warning("%s is damaged at offset %d: what comes after it is not read", path, at)
                    return
                records = Records(data, at, np.array([HEAD_NBYTES]), np.array([HEAD_NBYTES + _length_at(data)[0]]))
                if records.end > os.fstat(file.fileno()).st_size:
                    return
            yield records
            at = records.end


def _whole_records(data: bytes, at: int) -> Records:
    """Records up to the first length with a wrong checksum."""
    ends = [-TAIL_NBYTES]
    last = len(data)
    end = 0
    while end + _FRAME_NBYTES <= last:
        end += _FRAME_NBYTES + _length_at(data, end)[0]
        if end > last:
            break
        ends.append(end - TAIL_NBYTES)
    begins = np.array(ends[:-1], np.int64) + _FRAME_NBYTES
    wrong = np.flatnonzero(~_have_sound_heads(data, begins))
    n_sound = int(wrong[0]) if len(wrong) else len(begins)
    return Records(data, at, begins[:n_sound], np.array(ends[1 : n_sound + 1], np.int64))


def _have_sound_heads(data: bytes, begins: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the checksums of lengths are right, by where the payloads begin."""
    expected = masked_crc32c(data, begins - HEAD_NBYTES, np.full(len(begins), HEAD_NBYTES - 4))
    sound: NDArray[np.bool_] = expected == _words(data, begins - 4)
    return sound


def _words(data: bytes, offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Numbers of four bytes that begin anywhere."""
    pieces = np.frombuffer(data, np.uint8)[offsets[:, None] + np.arange(4)]
    words: NDArray[np.uint32] = pieces.view("<u4")[:, 0]
    return words

"""Scalars out of the event files of one run.

Nearly all records of a training run have the same form: the time, the step, then bytes that are the same for
every record of a tag, then four bytes of the value. Those bytes are learnt from the first record of a tag, which
protobuf parses; the others need a look-up only, at about a twentieth of the time.
"""

from __future__ import annotations

import logging
import struct
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no types
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]  # it has no types
from tensorboard.util.tensor_util import make_ndarray  # type: ignore[import-untyped]  # it has no types

from sucrose.post.series import Series
from sucrose.scenarios.tensorboard.event_records import read_records

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sucrose.scenarios.tensorboard.event_records import Records

_WALL_TIME, _STEP = 0x09, 0x10  # how these fields of an event begin; protobuf writes fields in their order
_SHORTEST = 20  # of a time, a step and its longest number
_SCALARS = "scalars"  # TensorBoard's plugin for them
_double_at = struct.Struct("<d").unpack_from
_float_at = struct.Struct("<f").unpack_from
_logger = logging.getLogger(__name__)


class _Column:
    """Points of one tag, in the order in which they were written; three arrays of equal length."""

    __slots__ = ("add_step", "add_value", "add_wall_time", "steps", "values", "wall_times")

    def __init__(self) -> None:
        self.steps = array("q")
        self.values = array("d")
        self.wall_times = array("d")
        # Looked up once, not for each of millions of points.
        self.add_step = self.steps.append
        self.add_value = self.values.append
        self.add_wall_time = self.wall_times.append

    def purge(self, step: int) -> None:
        """Forgets points at this step and later ones."""
        if self.steps and max(self.steps) >= step:
            stays = [index for index, own in enumerate(self.steps) if own < step]
            self.steps[:] = array("q", [self.steps[index] for index in stays])
            self.values[:] = array("d", [self.values[index] for index in stays])
            self.wall_times[:] = array("d", [self.wall_times[index] for index in stays])


class RunScalars:
    """Collects the scalars of one run from its event files, which have to be read in the order of their writing.

    Attributes:
        tags: all that occurred, wanted or not.
    """

    def __init__(self, is_wanted: Callable[[str], bool]) -> None:
        self.tags: set[str] = set()
        self._is_wanted = is_wanted
        self._columns: dict[str, _Column] = {}
        self._plugins: dict[str, str] = {}
        self._templates: dict[bytes, _Column | None] = {}

    def read(self, path: str, at: int = 0) -> None:
        """Adds an event file, from the record at offset `at`.

        Where it says that a program started again at some step, points from there on are forgotten, as by TensorBoard.

        Raises:
            OSError: it cannot be read.
        """
        n_damaged = n_unreadable = 0
        for records in read_records(path, at):
            if not records.is_whole:  # an image or the like
                continue
            are_sound = records.are_sound()
            n_damaged += len(are_sound) - int(are_sound.sum())
            n_unreadable += self._read(records, are_sound)
        if n_damaged:
            _logger.warning("%s: %d of its records are damaged, and left out", path, n_damaged)
        if n_unreadable:
            _logger.warning("%s: %d of its records are no events, and left out", path, n_unreadable)

    def series(self) -> dict[str, Series]:
        """All wanted tags that have points; of several points at a step the last one written."""
        return {
            tag: Series.of_written(
                np.array(column.steps, np.int64), np.array(column.values), np.array(column.wall_times)
            )
            for tag, column in sorted(self._columns.items())
            if column.steps
        }

    def _read(self, records: Records, are_wanted: NDArray[np.bool_]) -> int:
        """Returns how many records could not be parsed."""
        data, templates = records.data, self._templates
        n_unreadable = 0
        spans = zip(records.begins[are_wanted].tolist(), records.ends[are_wanted].tolist(), strict=True)
        for begin, end in spans:
            at, step = begin + 9, 0
            if end - begin < _SHORTEST or data[begin] != _WALL_TIME:
                n_unreadable += not self._add(data[begin:end])
                continue
            if data[at] == _STEP:
                step, at = _varint(data, at + 1)
            template = data[at : end - 4]
            if template in templates:
                column = templates[template]
                if column is not None:
                    column.add_step(step)
                    column.add_value(_float_at(data, end - 4)[0])
                    column.add_wall_time(_double_at(data, begin + 1)[0])
            elif not self._add(data[begin:end]):
                n_unreadable += 1
            else:
                self._learn(template)
        return n_unreadable

    def _learn(self, template: bytes) -> None:
        """Where the value of a scalar, and nothing else, belongs behind these bytes, they tell the tag from now on."""
        try:
            first, second = (Event.FromString(template + struct.pack("<f", value)) for value in (1.5, -2.0))
        except DecodeError:
            return
        values = [*first.summary.value, *second.summary.value]
        has_value_behind = (
            len(values) == 2
            and values[0].WhichOneof("value") == "simple_value"
            and (values[0].simple_value, values[1].simple_value) == (1.5, -2.0)
            and (first.step, first.wall_time) == (0, 0)
        )
        if has_value_behind:
            self._templates[template] = self._column(values[0].tag)

    def _add(self, payload: bytes) -> bool:
        """Any event; False where it is none."""
        try:
            event = Event.FromString(payload)
        except DecodeError:
            return False
        if event.HasField("session_log") and event.session_log.status == SessionLog.START:
            for column in self._columns.values():
                column.purge(event.step)
        for value in event.summary.value:
            number = self._number(value)
            wanted = None if number is None else self._column(value.tag)
            if number is not None and wanted is not None:
                wanted.add_step(event.step)
                wanted.add_value(number)
                wanted.add_wall_time(event.wall_time)
        return True

    def _number(self, value: Any) -> float | None:
        """The value of a scalar; None for everything else."""
        plugin = value.metadata.plugin_data.plugin_name
        if plugin:  # only the first summary of a tag tells it, as a rule
            self._plugins.setdefault(value.tag, plugin)
        kind = value.WhichOneof("value")
        if kind == "simple_value":
            return float(value.simple_value)
        if kind != "tensor" or self._plugins.get(value.tag, _SCALARS) != _SCALARS:
            return None
        if any(dim.size != 1 for dim in value.tensor.tensor_shape.dim):
            return None  # before it is made: a single number may speak for all elements of any shape
        try:
            tensor = make_ndarray(value.tensor)
        except (TypeError, ValueError, OverflowError):  # of a type that has no numbers, or not these
            return None
        return float(tensor.reshape(())) if tensor.size == 1 and tensor.dtype.kind in "fiub" else None

    def _column(self, tag: str) -> _Column | None:
        self.tags.add(tag)
        if not self._is_wanted(tag):
            return None
        return self._columns.setdefault(tag, _Column())


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number of 64 bits with its sign, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    number &= 2**64 - 1
    return (number - 2**64 if number >= 2**63 else number), at

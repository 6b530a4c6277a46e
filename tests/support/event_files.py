"""Event files, written record by record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def scalar(tag: str, step: int, value: float, wall_time: float = 1e9) -> Any:
    """An event as `SummaryWriter.add_scalar` writes it."""
    return Event(wall_time=wall_time, step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))


def start(step: int, wall_time: float = 1e9) -> Any:
    """An event as `purge_step` writes it."""
    return Event(wall_time=wall_time, step=step, session_log=SessionLog(status=SessionLog.START))


def version(wall_time: float = 1e9) -> Any:
    """The first event of a file."""
    return Event(wall_time=wall_time, file_version="brain.Event:2")


def write_events(path: Path, events: Iterable[Any]) -> list[int]:
    """Writes a file; returns where its records end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ends = []
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
            ends.append(file.tell())
    return ends

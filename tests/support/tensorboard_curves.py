"""What TensorBoard's own reader finds in a folder of logs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tensorboard.backend.event_processing import io_wrapper
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

if TYPE_CHECKING:
    from pathlib import Path

Points = list[tuple[int, float]]


def curves(log_dir: Path) -> dict[str, dict[str, Points]]:
    """Steps and values by run and tag; the folder itself is the run ``.``. Runs and tags without any are left out."""
    found = {}
    for folder in io_wrapper.GetLogdirSubdirectories(str(log_dir)):
        accumulator = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
        of_run = {
            tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
            for tag in accumulator.Tags()["scalars"]
        }
        if any(of_run.values()):
            found[os.path.relpath(folder, log_dir)] = {tag: points for tag, points in of_run.items() if points}
    return found


def event_files(log_dir: Path) -> list[Path]:
    """All files that TensorBoard would load, by path."""
    return sorted(
        path for path in log_dir.rglob("*") if path.is_file() and io_wrapper.IsTensorFlowEventsFile(str(path))
    )


def start_steps(path: Path) -> set[int]:
    """Steps of the START events in a file."""
    return {event.step for event in LegacyEventFileLoader(str(path)).Load() if event.session_log.status == 1}

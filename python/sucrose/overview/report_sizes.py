"""Checkpoints of all scenarios, and how large they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sucrose.overview.text import nbytes_text, number_text, time_text
from sucrose.scenarios.checkpoints import list_checkpoints

if TYPE_CHECKING:
    from sucrose.scenarios.checkpoints import CheckpointInfo
    from sucrose.scenarios.workspace import Workspace

_MIN_PERCENT = 2.0  # so that there is something to point at


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One checkpoint.

    Attributes:
        label: the epoch.
        percent: of the largest checkpoint in the workspace.
        state: "whole", "mid-epoch" or "broken".
        details: what a row of a table tells about it, in the order of `DETAILS`.
        problem: why it cannot be loaded; empty where it can.
    """

    label: str
    percent: float
    state: str
    details: tuple[str, ...]
    problem: str

    @property
    def hint(self) -> str:
        """One line."""
        return f"epoch {self.label}: {self.details[2]}{f', {self.problem}' if self.problem else ''}"


DETAILS = ("epoch", "step", "size", "saved (UTC)", "metrics", "overrides", "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRow:
    """One scenario with its checkpoints, oldest first."""

    scenario: str
    nbytes: int
    bars: tuple[Bar, ...]
    heads: tuple[str, ...] = DETAILS


def collect_checkpoints(workspace: Workspace) -> dict[str, list[CheckpointInfo]]:
    """Checkpoints by scenario, of those that have any."""
    found = {}
    for name in workspace.scenario_names():
        with suppress(OSError):  # the table of runs tells
            found[name] = list_checkpoints(workspace.checkpoint_names(name))
    return {name: checkpoints for name, checkpoints in found.items() if checkpoints}


def size_rows(checkpoints: Mapping[str, Sequence[CheckpointInfo]]) -> list[SizeRow]:
    """Bars to one scale."""
    largest = max((info.nbytes for infos in checkpoints.values() for info in infos), default=0)
    return [
        SizeRow(
            scenario=name,
            nbytes=sum(info.nbytes for info in infos),
            bars=tuple(_bar(info, largest) for info in infos),
        )
        for name, infos in checkpoints.items()
    ]


def _bar(info: CheckpointInfo, largest: int) -> Bar:
    label = f"{info.epoch} + part of {info.epoch + 1}" if info.is_mid_epoch else str(info.epoch)
    record = info.record
    metrics = {} if record is None else record.metrics
    return Bar(
        label=label,
        percent=max(_MIN_PERCENT, round(100 * info.nbytes / largest, 1)) if largest else _MIN_PERCENT,
        state="broken" if info.problem else "mid-epoch" if info.is_mid_epoch else "whole",
        details=(
            label,
            "–" if record is None else str(record.step),
            nbytes_text(info.nbytes),
            time_text(info.saved_ns),
            ", ".join(f"{name} {number_text(float(value))}" for name, value in sorted(metrics.items())) or "–",
            " ".join(record.overrides) if record is not None and record.overrides else "–",
            os.path.basename(info.path),
        ),
        problem=info.problem or "",
    )

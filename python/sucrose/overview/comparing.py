"""Scenarios side by side: what they were told, what came of it, and what is left on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sucrose.config import MISSING, Config, differences
from sucrose.errors import ConfigError
from sucrose.overview.curves import Curve, curves_of
from sucrose.overview.scenario_names import known_scenario
from sucrose.scenarios.checkpoints import list_checkpoints

if TYPE_CHECKING:
    from sucrose.scenarios.checkpoints import CheckpointInfo
    from sucrose.scenarios.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """One field of the configuration; in each tuple one value per scenario.

    Attributes:
        field: flat, with dots.
        now: values as the file has them now; `sucrose.config.MISSING` where there is none.
        saved: values in the newest checkpoints; `MISSING` where there is none.
        is_stored: whether there is a newest checkpoint that has its configuration.
    """

    field: str
    now: tuple[Any, ...]
    saved: tuple[Any, ...]
    is_stored: tuple[bool, ...]

    @property
    def differs(self) -> bool:
        """Whether the scenarios differ here, now or in what was saved, or one has changed since it was saved."""
        return any(not _same(value, self.now[0]) for value in self.in_force + self.now)

    @property
    def in_force(self) -> tuple[Any, ...]:
        """What each scenario was last run with, as far as that is known; else what it would be run with."""
        rows = zip(self.now, self.saved, self.is_stored, strict=True)
        return tuple(saved if is_stored else now for now, saved, is_stored in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveRow:
    """One tag; in the tuple one summary per scenario, None where it has not logged this tag."""

    tag: str
    curves: tuple[Curve | None, ...]

    @property
    def differences(self) -> tuple[float | None, ...]:
        """Last values less that of the first scenario; None where either is missing."""
        first = self.curves[0]
        return tuple(
            None if first is None or curve is None else curve.last.value - first.last.value for curve in self.curves
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `compare` has found.

    Attributes:
        scenarios: their names, in the order of all tuples here.
        config: all fields that any of them has, by name.
        config_problems: why there is no current configuration, where there is none.
        curves: all tags that any of them has logged, by name.
        curves_problem: why there are no curves, where they could not be read.
        checkpoints: of each scenario, oldest first.
    """

    scenarios: tuple[str, ...]
    config: tuple[FieldRow, ...]
    config_problems: tuple[str | None, ...]
    curves: tuple[CurveRow, ...]
    curves_problem: str | None
    checkpoints: tuple[tuple[CheckpointInfo, ...], ...]


def compare(workspace: Workspace, first: str, second: str, *more: str) -> Comparison:
    """Puts scenarios of one workspace side by side. Reads no tensors, and changes nothing.

    Args:
        workspace: that they belong to.
        first: a scenario's name; differences are told against this one.
        second: another one.
        more: and others.

    Raises:
        ConfigError: there is no scenario of such a name.

    Example:
        >>> import os, tempfile
        >>> from sucrose.scenarios.workspace import Workspace
        >>> work_dir = tempfile.mkdtemp()
        >>> with open(os.path.join(work_dir, "config.yaml"), "w") as file:
        ...     _ = file.write("{base: {lr: 0.1, dim: 8}, base/slow: {lr: 0.01}}")
        >>> comparison = compare(Workspace.open(work_dir), "base", "base/slow")
        >>> [(row.field, row.now) for row in comparison.config if row.differs]
        [('lr', (0.1, 0.01))]
    """
    names = tuple(known_scenario(workspace, name) for name in (first, second, *more))
    checkpoints = tuple(tuple(list_checkpoints(workspace.checkpoint_names(name))) for name in names)
    now = [_config_now(workspace, name) for name in names]
    curves, curves_problem = _curves(workspace, names)
    return Comparison(
        scenarios=names,
        config=_field_rows([fields for fields, _ in now], [_config_saved(infos) for infos in checkpoints]),
        config_problems=tuple(problem for _, problem in now),
        curves=curves,
        curves_problem=curves_problem,
        checkpoints=checkpoints,
    )


def _config_now(workspace: Workspace, name: str) -> tuple[dict[str, Any], str | None]:
    try:
        return Config(workspace.config, name).resolved(), None
    except ConfigError as error:
        return {}, str(error)


def _config_saved(infos: Sequence[CheckpointInfo]) -> dict[str, Any] | None:
    """As the newest checkpoint has it that tells."""
    for info in reversed(infos):
        if info.record is not None:
            return dict(info.record.config)
    return None


def _field_rows(now: list[dict[str, Any]], saved: list[dict[str, Any] | None]) -> tuple[FieldRow, ...]:
    fields = sorted({field for fields in (*now, *saved) if fields is not None for field in fields})
    is_stored = tuple(fields is not None for fields in saved)
    return tuple(
        FieldRow(
            field=field,
            now=tuple(fields.get(field, MISSING) for fields in now),
            saved=tuple(MISSING if fields is None else fields.get(field, MISSING) for fields in saved),
            is_stored=is_stored,
        )
        for field in fields
    )


def _curves(workspace: Workspace, names: tuple[str, ...]) -> tuple[tuple[CurveRow, ...], str | None]:
    folders = frozenset(map(workspace.logs_dir, workspace.scenario_names()))
    try:
        summaries = [curves_of(workspace.logs_dir(name), folders) for name in names]
    except ImportError as error:
        return (), str(error)
    tags = sorted({tag for summary in summaries for tag in summary})
    rows = (CurveRow(tag=tag, curves=tuple(summary.get(tag) for summary in summaries)) for tag in tags)
    return tuple(rows), None


def _same(one: Any, other: Any) -> bool:
    return not differences({"": one}, {"": other})

"""Scenarios side by side, as `compare` finds them."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scenario_files import FIELDS, log, make_workspace, save
from torch.utils.tensorboard import SummaryWriter

from sucrose.config import MISSING
from sucrose.errors import ConfigError
from sucrose.overview.comparing import compare
from sucrose.overview.curves import Point, summarise

if TYPE_CHECKING:
    from sucrose.overview.comparing import Comparison, FieldRow
    from sucrose.scenarios.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "workspace")


def field_of(comparison: Comparison, field: str) -> FieldRow:
    (row,) = [row for row in comparison.config if row.field == field]
    return row


def test_fields_stand_side_by_side_with_what_parents_give(workspace: Workspace) -> None:
    comparison = compare(workspace, "base/case1", "base/case2", "base")
    assert comparison.scenarios == ("base/case1", "base/case2", "base")
    assert [(row.field, row.now) for row in comparison.config] == [
        ("model.dim", (8, 16, 8)),
        ("optim.lr", (0.01, 0.1, 0.1)),
    ]
    assert all(row.differs for row in comparison.config)
    assert not any(row.differs for row in compare(workspace, "base", "base").config)


def test_a_field_that_one_of_them_lacks_differs(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "one: {a: 1, b: null}\nother: {a: 1.0, b: 0, c: null}\n")
    comparison = compare(workspace, "one", "other")
    assert field_of(comparison, "c").now == (MISSING, None)
    assert [row.field for row in comparison.config if row.differs] == ["b", "c"]


def test_yes_and_one_are_two_settings(tmp_path: Path) -> None:
    assert field_of(compare(make_workspace(tmp_path, "one: {a: 1}\nother: {a: true}\n"), "one", "other"), "a").differs


def test_what_a_checkpoint_was_made_with_is_told_where_the_file_has_changed(workspace: Workspace) -> None:
    save(workspace, "base/case1", 1, config={**FIELDS["base/case1"], "optim.lr": 0.5})
    save(workspace, "base/case1", 2, config={**FIELDS["base/case1"], "optim.lr": 0.3, "gone": 7})
    comparison = compare(workspace, "base", "base/case1")
    row = field_of(comparison, "optim.lr")
    assert (row.now, row.saved, row.in_force) == ((0.1, 0.01), (MISSING, 0.3), (0.1, 0.3))
    gone = field_of(comparison, "gone")
    assert (gone.now, gone.saved, gone.differs) == ((MISSING, MISSING), (MISSING, 7), True)
    assert not field_of(comparison, "model.dim").differs


def test_equal_runs_with_another_configuration_than_now_differ_from_it(workspace: Workspace) -> None:
    for name in ("base/case1", "base/case2"):
        save(workspace, name, 1, config={"optim.lr": 0.7, "model.dim": 8})
    assert field_of(compare(workspace, "base/case1", "base/case2"), "optim.lr").differs


def test_curves_are_told_by_their_end_and_their_extremes(workspace: Workspace) -> None:
    log(workspace, "base/case1", "loss", {10: 0.5, 20: 0.25, 30: 0.375})
    log(workspace, "base/case2", "loss", {10: 1.0, 40: 0.125})
    log(workspace, "base/case2", "accuracy", {10: 0.5})
    accuracy, loss = compare(workspace, "base/case1", "base/case2").curves
    assert (accuracy.tag, loss.tag) == ("accuracy", "loss")
    assert accuracy.curves[0] is None
    assert accuracy.differences == (None, None)
    one, other = loss.curves
    assert one is not None
    assert other is not None
    assert (one.last, one.lowest, one.highest) == (
        Point(step=30, value=0.375),
        Point(step=20, value=0.25),
        Point(step=10, value=0.5),
    )
    assert (one.n_points, other.last.step) == (3, 40)
    assert loss.differences == (0.0, -0.25)


def test_attempts_are_one_curve(workspace: Workspace) -> None:
    log(workspace, "base/case1", "loss", {1: 0.5, 2: 0.4, 3: 9.0})
    with SummaryWriter(workspace.logs_dir("base/case1"), purge_step=3) as writer:
        writer.add_scalar("loss", 0.3, 3)
    (row,) = compare(workspace, "base/case1", "base/case2").curves
    assert row.curves[0] is not None
    assert (row.curves[0].n_points, row.curves[0].highest) == (3, Point(step=1, value=0.5))


def test_curves_of_several_values_belong_to_their_scenario_and_nested_scenarios_have_their_own(
    workspace: Workspace,
) -> None:
    with SummaryWriter(workspace.logs_dir("base")) as writer:
        writer.add_scalars("loss", {"train": 0.5, "test": 0.75}, 1)
    log(workspace, "base/case1", "inner", {1: 2.0})
    comparison = compare(workspace, "base", "base/case1")
    assert [(row.tag, [curve is not None for curve in row.curves]) for row in comparison.curves] == [
        ("inner", [False, True]),
        ("loss [loss_test]", [True, False]),
        ("loss [loss_train]", [True, False]),
    ]


def test_extremes_are_of_numbers_and_the_end_is_what_it_is() -> None:
    curve = summarise([(3, math.inf), (1, math.nan), (2, 5.0), (4, math.nan), (5, 5.0)])
    assert (curve.lowest, curve.highest) == (Point(step=2, value=5.0), Point(step=2, value=5.0))
    assert curve.last == Point(step=5, value=5.0)
    nothing = summarise([(1, math.nan)])
    assert (nothing.lowest, nothing.highest) == (None, None)
    assert math.isnan(nothing.last.value)


def test_checkpoints_are_listed_from_the_oldest_with_what_is_wrong(workspace: Workspace) -> None:
    damaged = save(workspace, "base/case1", 3)
    save(workspace, "base/case1", 10, metrics={"loss": 0.5})
    damaged.write_bytes(damaged.read_bytes()[:100])
    (first, second), none = compare(workspace, "base/case1", "base/case2").checkpoints
    assert (first.epoch, second.epoch, none) == (3, 10, ())
    assert first.problem is not None
    assert second.problem is None
    assert second.record is not None
    assert second.record.metrics == {"loss": 0.5}


def test_a_scenario_that_is_not_there_is_told_with_the_nearest(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"no scenario 'base/case3'.*did you mean 'base/case"):
        compare(workspace, "base", "base/case3")


def test_a_scenario_whose_domain_is_gone_is_compared_by_what_its_checkpoint_has(tmp_path: Path) -> None:
    save(make_workspace(tmp_path), "base/case1", 1)
    workspace = make_workspace(tmp_path, "other: {optim.lr: 0.01}\n")
    comparison = compare(workspace, "other", "base/case1")
    assert comparison.config_problems[0] is None
    assert "base/case1" in str(comparison.config_problems[1])
    assert field_of(comparison, "optim.lr").in_force == (0.01, 0.01)
    assert field_of(comparison, "model.dim").in_force == (MISSING, 8)


def test_without_what_reads_event_files_the_rest_is_compared(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(workspace, "base/case1", "loss", {1: 0.5})
    monkeypatch.setitem(sys.modules, "sucrose.post.event_scalars", None)
    comparison = compare(workspace, "base/case1", "base/case2")
    assert comparison.curves == ()
    assert "event_scalars" in str(comparison.curves_problem)
    assert len(comparison.config) == 2

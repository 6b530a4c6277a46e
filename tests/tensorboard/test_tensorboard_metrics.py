"""Metrics: the newest values by name, and a curve of each."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tensorboard_curves import curves

from sucrose.scenarios.metrics import Metrics
from sucrose.scenarios.tensorboard import start_writer

if TYPE_CHECKING:
    from pathlib import Path


def test_values_are_noted_and_written_at_their_step(tmp_path: Path) -> None:
    metrics = Metrics()
    with start_writer(str(tmp_path)) as writer:
        metrics.log({"train": {"loss": 1.0, "by": {"class": 2}}}, 1, writer)
        metrics.log({"train": {"loss": 0.5}, "accuracy": 0.25}, 2, writer)
    assert metrics.newest == {"train/loss": 0.5, "train/by/class": 2.0, "accuracy": 0.25}
    assert curves(tmp_path) == {
        ".": {"train/loss": [(1, 1.0), (2, 0.5)], "train/by/class": [(1, 2.0)], "accuracy": [(2, 0.25)]}
    }


@pytest.mark.parametrize(
    "value",
    [
        *(1, 1.0, True, Fraction(1), np.float32(1), np.int64(1), np.bool_(True), np.array(1.0), np.array([1])),
        *(torch.tensor(1), torch.tensor([1.0]), torch.tensor(1.0, requires_grad=True), torch.tensor(1.0).bfloat16()),
    ],
    ids=repr,
)
def test_whatever_is_one_number_is_a_float(value: Any) -> None:
    metrics = Metrics()
    metrics.log({"a": value}, 0)
    assert metrics.newest == {"a": 1.0}
    assert type(metrics.newest["a"]) is float


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_noted_as_they_are(value: float) -> None:
    metrics = Metrics()
    metrics.log({"a": value}, 0)
    assert repr(metrics.newest["a"]) == repr(value)


@pytest.mark.parametrize("value", ["0.5", None, [1.0], torch.ones(2), np.ones((1, 2)), 1j, torch.tensor(1j), object()])
def test_anything_else_is_refused_by_name_and_changes_nothing(tmp_path: Path, value: Any) -> None:
    metrics = Metrics()
    metrics.log({"b": 1.0}, 0)
    with start_writer(str(tmp_path)) as writer, pytest.raises(TypeError, match="'train/bad'"):
        metrics.log({"b": 2.0, "train": {"bad": value}}, 1, writer)
    assert metrics.newest == {"b": 1.0}
    assert curves(tmp_path) == {}


def test_a_name_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match="7"):
        Metrics().log({7: 1.0}, 0)  # type: ignore[dict-item]


def test_newest_is_a_snapshot_that_later_values_do_not_change() -> None:
    metrics = Metrics()
    metrics.log({"a": 1.0}, 0)
    before = metrics.newest
    metrics.log({"a": 2.0}, 1)
    assert before == {"a": 1.0}
    metrics.restore(before)
    metrics.log({"b": 3.0}, 1)
    assert metrics.newest == {"a": 1.0, "b": 3.0}

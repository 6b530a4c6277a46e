"""Scalars out of event files, as arrays and as a data frame."""

from __future__ import annotations

import logging
import math
import os
import random
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from event_files import scalar, start, version, write_events
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.util.tensor_util import make_ndarray, make_tensor_proto

from sucrose.errors import ConfigError
from sucrose.post import LogDataFrame
from sucrose.post.scalars import read_scalars
from sucrose.scenarios.tensorboard import event_records

if TYPE_CHECKING:
    from pathlib import Path

    from sucrose.post.series import Series

NAME = "events.out.tfevents.1000000000.host.1.0"
COLUMNS = ["value", "wall_time", "run", "tag"]


def points(series: Series) -> list[tuple[int, float]]:
    return list(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def all_points(logs: Path, **options: bool) -> dict[tuple[str, str], list[tuple[int, float]]]:
    return {key: points(series) for key, series in read_scalars(str(logs), **options).items()}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def test_everything_that_torch_writes_is_read_as_tensorboard_reads_it(logs: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    values = [0.1, -1e-30, 3.4e38, float("nan"), float("inf"), float("-inf"), 0.0]
    with SummaryWriter(str(logs / "base" / "case1")) as writer:
        for step, value in enumerate(values * 3):
            writer.add_scalar("loss/träin <b>", value, step * 10**9, walltime=1e9 + step)
            writer.add_scalar("new", value, step, new_style=True)
            writer.add_scalar("double", value, step, new_style=True, double_precision=True)
            writer.add_scalars("both", {"train": value, "val": -value}, step)
        writer.add_scalar("no step", 1.0)
        writer.add_scalar("long" * 1000, 1.0, 3)
        writer.add_histogram("histogram", np.arange(5.0), 1)
        writer.add_text("text", "words", 1)
        writer.add_image("image", np.zeros((3, 4, 4)), 1)
        writer.add_hparams({"lr": 0.1}, {"score": 0.5}, run_name=".")
    found = read_scalars(str(logs))
    assert {run for run, _ in found} == {"base/case1", "base/case1/both_train", "base/case1/both_val"}
    tags = {tag for run, tag in found if run == "base/case1"}
    assert tags == {"loss/träin <b>", "new", "double", "no step", "long" * 1000, "score"}
    for (run, tag), series in found.items():
        accumulator = EventAccumulator(str(logs / run), {"tensors": 0, "scalars": 0})
        accumulator.Reload()
        is_old_style = tag in accumulator.Tags()["scalars"]
        expected = accumulator.Scalars(tag) if is_old_style else accumulator.Tensors(tag)
        assert series.steps.tolist() == [event.step for event in expected]
        assert series.wall_times.tolist() == [event.wall_time for event in expected]
        numbers = [event.value if is_old_style else make_ndarray(event.tensor_proto).item() for event in expected]
        np.testing.assert_array_equal(series.values, numbers)


def test_tensors_are_scalars_when_their_tag_says_so_or_nothing_else(logs: Path) -> None:
    def event(tag: str, step: int, content: object, plugin: str = "") -> object:
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin)) if plugin else None
        value = Summary.Value(tag=tag, tensor=make_tensor_proto(content), metadata=metadata)
        return Event(wall_time=1e9, step=step, summary=Summary(value=[value]))

    events = [
        event("as TensorFlow writes", 1, np.float32(0.5), "scalars"),
        event("as TensorFlow writes", 2, np.float32(0.25)),
        event("whole", 1, np.int64(7), "scalars"),
        event("of a plugin", 1, np.float32(1), "custom"),
        event("of a plugin", 2, np.float32(1)),
        event("text", 1, "words"),
        event("vector", 1, np.zeros(3, np.float32)),
    ]
    write_events(logs / "run" / NAME, [version(), *events])
    assert all_points(logs) == {
        ("run", "as TensorFlow writes"): [(1, 0.5), (2, 0.25)],
        ("run", "whole"): [(1, 7.0)],
    }


@pytest.mark.parametrize(
    ("dtype", "shape", "content"),
    [
        (1, [1 << 62], {"float_val": [1.0]}),
        (1, [1 << 20, 1 << 20], {"float_val": [1.0]}),
        (1, [-1, -1], {"float_val": [1.0]}),
        (6, [], {"int_val": [1000]}),
        (19, [], {"half_val": [1 << 20]}),
    ],
    ids=["longer than memory", "many by many", "negative", "beyond eight bits", "beyond sixteen bits"],
)
def test_tensors_that_cannot_be_are_no_scalars(
    logs: Path, dtype: int, shape: list[int], content: dict[str, list[float]]
) -> None:
    tensor = TensorProto(dtype=dtype, **content)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    value = Summary.Value(tag="hostile", tensor=tensor)
    sound = Summary.Value(tag="loss", simple_value=0.5)
    event = Event(wall_time=1e9, step=1, summary=Summary(value=[value, sound]))
    write_events(logs / "run" / NAME, [version(), event])
    assert all_points(logs) == {("run", "loss"): [(1, 0.5)]}


STEPS = st.integers(-3, 12) | st.sampled_from([127, 128, 2**31, 2**62, -(2**63), 2**63 - 1])
EVENTS = st.one_of(
    st.tuples(st.sampled_from(["a", "b", "c/d"]), STEPS, st.floats(width=32, allow_nan=False)),
    st.tuples(st.just(None), st.integers(0, 12), st.just(0.0)),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(EVENTS, max_size=12), min_size=1, max_size=4))
def test_the_newest_attempt_has_the_say(logs: Path, attempts: list[list[tuple[str | None, int, float]]]) -> None:
    expected: dict[tuple[str, str], dict[int, float]] = {}
    for path in logs.rglob("*tfevents*"):
        path.unlink()
    for number, attempt in enumerate(attempts):
        events = [version(1e9 + number)]
        for tag, step, value in attempt:
            if tag is None:
                events.append(start(step))
                for curve in expected.values():
                    for own in [own for own in curve if own >= step]:
                        del curve[own]
            else:
                events.append(scalar(tag, step, value))
                expected.setdefault(("run", tag), {})[step] = value
        write_events(logs / "run" / f"events.out.tfevents.1000000000.host.{number}.0", events)
    assert all_points(logs) == {key: sorted(curve.items()) for key, curve in expected.items() if curve}


def test_attempts_of_one_second_are_told_apart(logs: Path) -> None:
    later, earlier = (f"events.out.tfevents.1000000000.host.{number}.0" for number in (10, 9))  # 10 sorts before 9
    write_events(logs / "run" / later, [version(1e9 + 0.5), scalar("loss", 1, 2.0)])
    write_events(logs / "run" / earlier, [version(1e9 + 0.25), scalar("loss", 1, 1.0), scalar("loss", 2, 1.0)])
    assert all_points(logs) == {("run", "loss"): [(1, 2.0), (2, 1.0)]}


def test_a_file_that_ends_anywhere_gives_all_whole_records(logs: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = logs / "run" / NAME
    ends = write_events(path, [version(), *(scalar("loss", step, step / 2) for step in range(12))])
    content = path.read_bytes()
    for nbytes in range(len(content) + 1):
        path.write_bytes(content[:nbytes])
        n_whole = sum(end <= nbytes for end in ends[1:])
        assert all_points(logs).get(("run", "loss"), []) == [(step, step / 2) for step in range(n_whole)]
    assert not caplog.records


def test_a_flipped_bit_invents_no_point_and_hides_none_before_it(logs: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = logs / "run" / NAME
    ends = write_events(path, [version(), *(scalar("loss", step, step / 2) for step in range(12))])
    content = path.read_bytes()
    expected = [(step, step / 2) for step in range(12)]
    chosen = random.Random(0)
    for offset in range(ends[0], len(content)):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        caplog.clear()
        found = all_points(logs).get(("run", "loss"), [])
        n_before = sum(end <= offset for end in ends[1:])
        assert found[:n_before] == expected[:n_before]
        assert set(found) < set(expected)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert str(path) in caplog.text


def test_points_behind_an_image_that_is_larger_than_a_block_are_read(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_records, "_BLOCK_NBYTES", 1000)
    image = Summary.Value(tag="image", image=Summary.Image(encoded_image_string=os.urandom(9999)))
    event = Event(wall_time=1e9, step=1, summary=Summary(value=[image]))
    write_events(logs / "run" / NAME, [version(), scalar("loss", 1, 1.0), event, scalar("loss", 2, 2.0)])
    assert all_points(logs) == {("run", "loss"): [(1, 1.0), (2, 2.0)]}


@pytest.mark.parametrize("block_nbytes", [100, 101, 997])
def test_more_than_a_block_of_points_is_read(logs: Path, monkeypatch: pytest.MonkeyPatch, block_nbytes: int) -> None:
    monkeypatch.setattr(event_records, "_BLOCK_NBYTES", block_nbytes)
    write_events(logs / "run" / NAME, [version(), *(scalar("loss", step, step) for step in range(200))])
    assert all_points(logs) == {("run", "loss"): [(step, float(step)) for step in range(200)]}


def test_a_link_to_nowhere_is_no_event_file(logs: Path) -> None:
    write_events(logs / "run" / NAME, [version(), scalar("loss", 1, 1.0)])
    (logs / "run" / f"{NAME}.gone").symlink_to("/no/such/disk")
    assert all_points(logs) == {("run", "loss"): [(1, 1.0)]}


def test_superseded_attempts_count_only_where_asked_for(logs: Path) -> None:
    write_events(logs / "base" / NAME, [version(), scalar("loss", 1, 1.0)])
    superseded = logs / "base" / "superseded-1" / "loss_train"
    write_events(superseded / "events.out.superseded.1000000000.host.1.0.from-99", [scalar("loss", 2, 9.0)])
    (superseded / ".hidden").write_bytes(b"no event file")
    assert list(all_points(logs)) == [("base", "loss")]
    assert all_points(logs, attempts=True)["base/superseded-1/loss_train", "loss"] == [(2, 9.0)]


def test_links_that_lead_in_circles_are_followed_once(logs: Path) -> None:
    write_events(logs / "a" / NAME, [version(), scalar("loss", 1, 1.0)])
    (logs / "a" / "up").symlink_to(logs, target_is_directory=True)
    elsewhere = logs.parent / "elsewhere"
    write_events(elsewhere / NAME, [version(), scalar("loss", 1, 2.0)])
    (logs / "b").symlink_to(elsewhere, target_is_directory=True)
    assert all_points(logs) == {("a", "loss"): [(1, 1.0)], ("b", "loss"): [(1, 2.0)]}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for run in ("base", "base/case1", "other[1]"):
        for tag in ("loss", "accuracy"):
            events = [scalar(tag, step, step / 4, 1e9 + step) for step in (2, 1)]
            write_events(tmp_path / "logs" / run / f"{NAME}.{tag}", [version(), *events])
    return tmp_path


def test_a_data_frame_has_a_row_for_each_run_tag_and_step(workspace: Path) -> None:
    df = LogDataFrame(workspace).load()
    assert df.index.name == "step"
    assert list(df.columns) == COLUMNS
    keys = [(run, tag, step) for step, run, tag in zip(df.index, df["run"], df["tag"], strict=True)]
    runs = ("base", "base/case1", "other[1]")
    assert keys == [(run, tag, step) for run in runs for tag in ("accuracy", "loss") for step in (1, 2)]
    chosen = df[(df["run"] == "base") & (df["tag"] == "loss")]
    assert chosen["value"].to_dict() == {1: 0.25, 2: 0.5}
    assert chosen["wall_time"].to_dict() == {1: 1e9 + 1, 2: 1e9 + 2}


@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        (["base"], ["base"]),
        ("base", ["base"]),
        (["base*"], ["base", "base/case1"]),
        (["other[1]"], ["other[1]"]),
        (["*/case?", "base"], ["base", "base/case1"]),
        ([], []),
    ],
)
def test_runs_are_chosen_by_name_or_pattern(workspace: Path, asked: str | list[str], runs: list[str]) -> None:
    df = LogDataFrame(workspace, runs=asked, tags="l*").load()
    assert sorted(df["run"].unique()) == runs
    assert set(df["tag"]) <= {"loss"}


@pytest.mark.parametrize(
    ("options", "key", "near"),
    [
        ({"runs": ["base", "base/cas1"]}, "base/cas1", "base/case1"),
        ({"tags": ["los"]}, "los", "loss"),
        ({"runs": ["nothing*"]}, "nothing*", "other[1]"),
        ({"runs": ["base"], "tags": ["zzz"]}, "zzz", "accuracy"),
    ],
)
def test_what_is_not_there_is_an_error_that_names_what_is(
    workspace: Path, options: dict[str, list[str]], key: str, near: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        LogDataFrame(workspace, **options).load()  # type: ignore[arg-type]  # by name
    assert caught.value.key == key
    assert caught.value.path == str(workspace / "logs")
    assert repr(near) in str(caught.value)


def test_a_workspace_without_logs_gives_a_frame_without_rows(tmp_path: Path) -> None:
    df = LogDataFrame(tmp_path).load()
    assert (len(df), list(df.columns), df.index.name) == (0, COLUMNS, "step")
    with pytest.raises(FileNotFoundError):
        LogDataFrame(tmp_path / "nowhere")


def test_the_folder_of_logs_is_that_of_the_workspace(workspace: Path) -> None:
    (workspace / "logs").rename(workspace / "elsewhere")
    (workspace / "config.yaml").write_text("workspace: {logs_folder: elsewhere}\nbase: {}\n")
    assert len(LogDataFrame(workspace, runs="base", tags="loss").load()) == 2


def test_without_pandas_the_error_says_what_to_install(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'torch-sucrose\[plot\]'") as caught:
        LogDataFrame(workspace).load()
    assert caught.value.name == "pandas"


def test_an_infinite_value_stays(logs: Path) -> None:
    write_events(logs / "run" / NAME, [version(), scalar("loss", 1, math.inf), scalar("loss", 2, math.nan)])
    series = read_scalars(str(logs))["run", "loss"]
    np.testing.assert_array_equal(series.values, [math.inf, math.nan])

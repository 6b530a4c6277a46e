"""Curves after a resume: neither doubled nor cut, and nothing is deleted."""

from __future__ import annotations

import errno
import logging
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tensorboard_curves import Points, curves, event_files, start_steps
from torch.utils.tensorboard import SummaryWriter

from sucrose.scenarios.logs import ScenarioLogs
from sucrose.scenarios.record import Record
from sucrose.scenarios.tensorboard import ScenarioWriter, event_records, start_writer
from sucrose.storage.leases import lease

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def log(writer: SummaryWriter, steps: range) -> None:
    for step in steps:
        writer.add_scalar("loss", step * 0.5, step)


def line(steps: range) -> Points:
    return [(step, step * 0.5) for step in steps]


def record_with(positions: dict[str, int], step: int) -> Record:
    return Record(
        epoch=1, step=step, is_mid_epoch=False, saved_ns=0, config={}, overrides=(), metrics={}, logs=positions
    )


def superseded_bytes(log_dir: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(log_dir.glob("superseded-*/**/*")) if path.is_file())


@pytest.mark.parametrize("first", [0, 1], ids=["logged before the step is counted", "logged after it is counted"])
@pytest.mark.parametrize("n_lost", [0, 1, 5])
def test_a_curve_goes_on_where_the_checkpoint_was_saved(tmp_path: Path, first: int, n_lost: int) -> None:
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(first, 10 + first))
        positions = writer.positions()
        log(writer, range(10 + first, 10 + first + n_lost))
    with start_writer(str(tmp_path), step=10, positions=positions) as writer:
        log(writer, range(10 + first, 20 + first))
    assert curves(tmp_path) == {".": {"loss": line(range(first, 20 + first))}}
    assert start_steps(event_files(tmp_path)[-1]) == {10 + first}


def test_curves_by_epoch_and_by_samples_go_on_beside_curves_by_step(tmp_path: Path) -> None:
    with start_writer(str(tmp_path)) as writer:
        for step in range(1, 21):
            writer.add_scalar("samples", 1.0, step * 1000)
            writer.add_scalar("loss", 1.0, step)
            if step % 5 == 0:
                writer.add_scalar("accuracy", step / 5, step // 5)
            if step == 10:
                positions = writer.positions()
    start_writer(str(tmp_path), step=10, positions=positions).close()
    assert curves(tmp_path)["."] == {
        "samples": [(step * 1000, 1.0) for step in range(1, 11)],
        "loss": [(step, 1.0) for step in range(1, 11)],
        "accuracy": [(1, 1.0), (2, 2.0)],
    }


def test_runs_of_add_scalars_go_back_too_also_those_that_nobody_opens_again(tmp_path: Path) -> None:
    with start_writer(str(tmp_path)) as writer:
        for step in range(10):
            writer.add_scalars("two/parts", {"a": step, "b": -step}, step)
            if step == 5:
                positions = writer.positions()
        writer.add_scalars("late", {"c": 1.0}, 9)
    with start_writer(str(tmp_path), step=6, positions=positions) as writer:
        writer.add_scalars("two/parts", {"a": 100}, 6)
    assert curves(tmp_path) == {
        "two_parts_a": {"two/parts": [(step, float(step)) for step in range(6)] + [(6, 100.0)]},
        "two_parts_b": {"two/parts": [(step, float(-step)) for step in range(6)]},
    }


def test_the_programs_own_writers_in_folders_below_go_back_too(tmp_path: Path) -> None:
    with start_writer(str(tmp_path)) as writer, SummaryWriter(str(tmp_path / "own")) as own:
        log(own, range(5))
        own.flush()
        positions = writer.positions()
        log(own, range(5, 10))
    start_writer(str(tmp_path), step=5, positions=positions).close()
    assert curves(tmp_path) == {"own": {"loss": line(range(5))}}


def test_a_first_checkpoint_that_never_came_means_that_all_comes_again(tmp_path: Path) -> None:
    for _ in range(3):
        with start_writer(str(tmp_path), step=0, positions={}) as writer:
            log(writer, range(5))
            writer.add_scalars("two", {"a": 1.0}, 3)
    assert curves(tmp_path) == {".": {"loss": line(range(5))}, "two_a": {"two": [(3, 1.0)]}}


def test_without_positions_tensorboard_hides_what_is_later_than_the_checkpoint(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        log(writer, range(15))
        writer.add_scalars("two", {"a": 1.0}, 3)
        writer.add_scalars("two", {"a": 1.0}, 12)
    with start_writer(str(tmp_path), step=10) as writer:
        log(writer, range(11, 13))
    assert curves(tmp_path) == {".": {"loss": line(range(13))}, "two_a": {"two": [(3, 1.0)]}}
    assert not list(tmp_path.glob("superseded-*"))


def test_without_a_checkpoint_that_was_loaded_everything_stays(tmp_path: Path) -> None:
    for steps in (range(5), range(5, 8)):
        with start_writer(str(tmp_path)) as writer:
            log(writer, steps)
    assert curves(tmp_path) == {".": {"loss": line(range(8))}}


def test_the_programs_purge_step_wins(tmp_path: Path) -> None:
    with start_writer(str(tmp_path)) as writer:
        positions = writer.positions()
        log(writer, range(10))
        writer.add_scalars("two", {"a": 1.0}, 3)
        writer.add_scalars("two", {"a": 1.0}, 4)
    start_writer(str(tmp_path), step=0, positions=positions, purge_step=4).close()
    assert curves(tmp_path) == {".": {"loss": line(range(4))}, "two_a": {"two": [(3, 1.0)]}}
    assert not list(tmp_path.glob("superseded-*"))


def test_a_checkpoint_can_be_loaded_when_the_writer_is_there_already(tmp_path: Path) -> None:
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(5))
        positions = writer.positions()
        log(writer, range(5, 9))
    with start_writer(str(tmp_path)) as writer:
        writer.add_scalar("loss", -1.0, 100)
        writer.resume(step=5, positions=positions)
        log(writer, range(5, 7))
    assert curves(tmp_path) == {".": {"loss": line(range(7))}}


def test_what_is_set_aside_is_there_in_full_where_tensorboard_does_not_look(
    tmp_path: Path, files_below: Callable[[Path], dict[str, bytes]]
) -> None:
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(5))
        positions = writer.positions()
        log(writer, range(5, 9))
    with start_writer(str(tmp_path)) as writer:  # a file that the checkpoint does not know
        log(writer, range(9, 12))
    before = files_below(tmp_path)
    start_writer(str(tmp_path), step=5, positions=positions).close()
    kept = b"".join(path.read_bytes() for path in event_files(tmp_path)[:2])
    first, second = (before[str(path.relative_to(tmp_path))] for path in event_files(tmp_path)[:2])
    assert kept == first[: len(kept)]
    assert kept + superseded_bytes(tmp_path) in (first + second, first[: len(kept)] + second + first[len(kept) :])
    assert not event_files(tmp_path / "superseded-1")


@pytest.mark.parametrize("call", ["fsync", "truncate", "mkdir", "rename"])
@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_a_crash_while_going_back_loses_nothing_and_the_next_resume_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with start_writer(str(tmp_path)) as writer:
        for step in range(10):
            writer.add_scalars("two", {"a": step, "b": step}, step)
            log(writer, range(step, step + 1))
            writer.add_scalar("epoch", step // 3, step // 3)
            if step == 5:
                positions = writer.positions()
    before = {path: path.read_bytes() for path in event_files(tmp_path)}
    real, calls = getattr(os, call), []

    def crash(*args: Any, **kw: Any) -> Any:
        calls.append(args)
        if len(calls) > number:
            raise KeyboardInterrupt
        return real(*args, **kw)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, crash)
        try:
            start_writer(str(tmp_path), step=6, positions=positions).close()
        except KeyboardInterrupt:
            pass
        else:
            assert len(calls) <= number

    for path, contents in before.items():
        now = path.read_bytes()
        assert contents.startswith(now)
        assert contents[len(now) :] in superseded_bytes(tmp_path)
    start_writer(str(tmp_path), step=6, positions=positions).close()
    assert curves(tmp_path) == {
        ".": {"loss": line(range(6)), "epoch": [(step // 3, float(step // 3)) for step in range(6)]},
        "two_a": {"two": [(step, float(step)) for step in range(6)]},
        "two_b": {"two": [(step, float(step)) for step in range(6)]},
    }
    assert not list(tmp_path.rglob(".opening*"))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_logged_and_whichever_checkpoint_is_loaded_the_curves_are_those_up_to_it(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    logged: dict[str, dict[str, Points]] = {}
    checkpoints: list[tuple[int, dict[str, int], dict[str, dict[str, Points]]]] = [(0, {}, {})]

    def note(run: str, tag: str, step: int, value: float) -> None:
        logged.setdefault(run, {}).setdefault(tag, []).append((step, value))

    for _ in range(8):
        step, positions, logged = chance.choice(checkpoints[-3:])
        logged = {run: {tag: list(points) for tag, points in tags.items()} for run, tags in logged.items()}
        with start_writer(str(tmp_path), step=step, positions=positions) as writer:
            assert curves(tmp_path) == logged
            for _ in range(chance.randrange(12)):
                step += 1
                value = float(chance.randrange(100))
                kinds = chance.choices(["step", "epoch", "samples", "two", "save"], k=2)
                for kind in dict.fromkeys(kinds):
                    if kind == "save":
                        copy = {
                            run: {tag: list(points) for tag, points in tags.items()} for run, tags in logged.items()
                        }
                        checkpoints.append((step, writer.positions(), copy))
                    elif kind == "two":
                        writer.add_scalars("two", {"a": value}, step)
                        note("two_a", "two", step, value)
                    else:
                        at = {"step": step, "epoch": step // 4, "samples": step * 32}[kind]
                        writer.add_scalar(kind, value, at)
                        note(".", kind, at, value)
            assert curves(tmp_path) == logged


def test_a_newer_checkpoint_that_is_loaded_after_an_older_one_has_its_curves_again(tmp_path: Path) -> None:
    saved = []
    for epoch in range(3):
        with start_writer(str(tmp_path)) as writer:
            log(writer, range(epoch * 3, epoch * 3 + 3))
            saved.append(writer.positions())
    start_writer(str(tmp_path), step=3, positions=saved[0]).close()
    start_writer(str(tmp_path), step=0, positions={}).close()
    assert curves(tmp_path) == {}
    start_writer(str(tmp_path), step=9, positions=saved[2]).close()
    assert curves(tmp_path) == {".": {"loss": line(range(9))}}


def test_half_a_record_of_a_killed_writer_and_half_one_at_the_position_do_no_harm(tmp_path: Path) -> None:
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(5))
        (name, nbytes), *_ = writer.positions().items()
        log(writer, range(5, 8))
    with (tmp_path / name).open("ab") as file:
        file.write(b"\x1a\0\0\0\0\0")
    # A program's own writer may have written a part of a record when the checkpoint was saved.
    with start_writer(str(tmp_path), step=5, positions={name: nbytes + 7}) as writer:
        log(writer, range(6, 8))
    assert curves(tmp_path) == {".": {"loss": line(range(8))}}


def test_a_file_that_was_damaged_or_cut_off_keeps_what_can_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(5))
        positions = writer.positions()
    (path,) = event_files(tmp_path)
    os.truncate(path, path.stat().st_size - 3)
    with start_writer(str(tmp_path), step=5, positions=positions) as writer:
        log(writer, range(5, 7))
    assert curves(tmp_path) == {".": {"loss": line(range(4)) + line(range(5, 7))}}
    assert "a part of the curves is lost" in caplog.text


def test_runs_of_other_scenarios_inside_the_folder_are_left_alone(tmp_path: Path) -> None:
    with start_writer(str(tmp_path / "base" / "case1")) as inner:
        log(inner, range(5))
    with start_writer(str(tmp_path / "base")) as outer:
        assert list(outer.positions()) == [path.name for path in (tmp_path / "base").glob("events*")]
    with start_writer(str(tmp_path / "base"), step=0, positions={}):
        pass
    assert curves(tmp_path) == {"base/case1": {"loss": line(range(5))}}


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(5))
    living = lease(str(tmp_path))
    assert living is not None
    with living, start_writer(str(tmp_path), step=0, positions={}) as writer:
        writer.add_scalar("accuracy", 1.0, 0)
    assert curves(tmp_path) == {".": {"loss": line(range(5)), "accuracy": [(0, 1.0)]}}
    assert "another process is logging" in caplog.text


def test_a_second_writer_of_the_process_ends_the_first_and_takes_over(tmp_path: Path) -> None:
    first = start_writer(str(tmp_path))
    log(first, range(5))
    positions = first.positions()
    log(first, range(5, 9))
    with start_writer(str(tmp_path), step=5, positions=positions) as second:
        log(second, range(5, 7))
    assert first.all_writers is None
    assert curves(tmp_path) == {".": {"loss": line(range(7))}}


def test_what_the_programs_own_writer_has_begun_is_neither_cut_nor_hidden(tmp_path: Path) -> None:
    saved: dict[str, int] = {}
    for first in (0, 3):
        logs = ScenarioLogs(str(tmp_path), {}, is_new=first == 0)
        with SummaryWriter(str(tmp_path)) as own:
            if first:
                logs.resume(record_with(saved, step=first), first, is_newest=True)
            for step in range(first, first + 6):
                own.add_scalar("own", step * 0.5, step)
                own.flush()
                logs.log({"loss": step * 0.5}, step)  # the first one begins the scenario's writer
                if step == first + 2:
                    saved = dict(logs.positions())
        logs.close()
    assert curves(tmp_path) == {".": {"own": line(range(9)), "loss": line(range(9))}}


def test_an_image_that_is_larger_than_a_block_is_cut_or_kept_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_records, "_BLOCK_NBYTES", 1000)
    image = torch.randint(256, (3, 64, 64), dtype=torch.uint8)
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(3))
        writer.add_image("kept", image, 2)
        positions = writer.positions()
        writer.add_image("lost", image, 3)
        log(writer, range(3, 5))
        (path,) = event_files(tmp_path)
        content = path.read_bytes()
    with start_writer(str(tmp_path), step=2, positions=positions) as writer:
        log(writer, range(3, 5))
    assert path.read_bytes() == content[: positions[path.name]]
    assert superseded_bytes(tmp_path) == content[positions[path.name] :]
    assert curves(tmp_path) == {".": {"loss": line(range(5))}}


def test_a_link_to_nowhere_is_no_event_file(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.host").symlink_to("/no/such/disk")
    with start_writer(str(tmp_path), step=0, positions={}) as writer:
        log(writer, range(2))
        assert list(writer.positions()) == [path.name for path in event_files(tmp_path)]


def test_a_file_from_a_host_whose_clock_is_ahead_comes_first_all_the_same(tmp_path: Path) -> None:
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(5))
        positions = writer.positions()
    (path,) = event_files(tmp_path)
    ahead = path.with_name("events.out.tfevents.9000000000.zz.99999.9")
    path.rename(ahead)
    with start_writer(str(tmp_path), step=5, positions={ahead.name: positions[path.name]}) as writer:
        log(writer, range(5, 9))
    assert event_files(tmp_path)[0] == ahead
    assert curves(tmp_path) == {".": {"loss": line(range(9))}}


def test_logs_that_cannot_be_set_aside_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(5))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", full)
        with pytest.raises(OSError, match="No space") as caught:
            start_writer(str(tmp_path), step=0, positions={})
    assert caught.value.errno == errno.ENOSPC
    assert curves(tmp_path) == {".": {"loss": line(range(5))}}


def test_resuming_says_where_it_has_put_things(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with start_writer(str(tmp_path)) as writer:
        log(writer, range(5))
    with caplog.at_level(logging.INFO, "sucrose"):
        writer = start_writer(str(tmp_path), step=0, positions={})
    assert isinstance(writer, ScenarioWriter)
    writer.close()
    assert str(tmp_path / "superseded-1") in caplog.text

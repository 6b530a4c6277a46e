"""The copy of an epoch's end that waits for the program's leaving."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from scenario_checkpoints import contents_of, names_in, record_of, value_of
from test_scenario_checkpoints_files import trained

from sucrose import Retention
from sucrose.errors import UnsupportedError
from sucrose.scenarios.checkpoints import CheckpointFolder, HeldEpoch, held_epoch

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType


def storages_of(value: Any) -> set[int]:
    if isinstance(value, torch.Tensor):
        return {value.untyped_storage().data_ptr()}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return {storage for item in inner for storage in storages_of(item)}


def test_what_is_held_is_what_was_there_when_it_was_held() -> None:
    held = HeldEpoch()
    states, expected = trained(), trained()
    assert held.hold(states, record_of(3))
    for tensor in [*states["model"].values(), *states["tied"].values()]:
        tensor.zero_()
    states["history"].append("later")
    contents = held.contents
    assert_same(contents, expected)
    assert contents is not None
    assert contents["model"]._metadata == expected["model"]._metadata
    assert contents["tied"]["half"].untyped_storage().data_ptr() == contents["tied"]["a"].untyped_storage().data_ptr()
    assert held.record == record_of(3)


def test_the_memory_of_one_epoch_serves_the_next() -> None:
    held = HeldEpoch()
    assert held.hold(contents_of(1.0), record_of(1))
    first = {storage.data_ptr() for storage in held._held.parts.storages}  # type: ignore[union-attr]
    for epoch in range(2, 6):
        if epoch % 2:
            held.release()
            assert held.contents is None
            assert held.record is None
        assert held.hold(contents_of(epoch), record_of(epoch))
        assert {storage.data_ptr() for storage in held._held.parts.storages} == first  # type: ignore[union-attr]
    contents = held.contents
    assert contents is not None
    assert value_of(contents) == 5.0


def test_states_may_change_their_shapes_and_types() -> None:
    held = HeldEpoch()
    for state in (
        {"a": torch.ones(10)},
        {"a": torch.ones(5, dtype=torch.float64)},
        {"a": torch.ones(4), "b": torch.zeros(10, 10).bfloat16(), "c": torch.empty(0)},
        OrderedDict(b=torch.arange(3)),
        {},
    ):
        assert held.hold(state, record_of(1))
        assert_same(held.contents, dict(state))


def test_too_large_a_copy_is_refused_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = HeldEpoch()
    free_nbytes = 1000
    monkeypatch.setattr(held_epoch, "free_host_nbytes", lambda: free_nbytes)
    assert held.hold({"a": torch.ones(125)}, record_of(1))  # exactly half
    free_nbytes = 500  # what is held is still there for the next one
    assert held.hold({"a": torch.ones(125)}, record_of(2))
    for epoch in (3, 4):
        assert not held.hold({"a": torch.ones(1000)}, record_of(epoch))
        assert held.contents is None
        assert held.record is None
    assert caplog.text.count("4000 bytes") == 1
    free_nbytes = 1000
    assert held.hold({"a": torch.ones(125)}, record_of(5))


def test_what_cannot_be_saved_is_not_held_either() -> None:
    held = HeldEpoch()
    assert held.hold(contents_of(1.0), record_of(1))
    with pytest.raises(UnsupportedError):
        held.hold({"a": torch.UntypedStorage(8, device="meta")}, record_of(2))
    assert held.contents is None


def test_what_is_held_can_be_written(tmp_path: Path) -> None:
    held = HeldEpoch()
    states = trained()
    assert held.hold(states, record_of(3))
    for extension in (".pt", ".snapshot"):
        folder = CheckpointFolder(names_in(tmp_path, extension), Retention())
        contents, record = held.contents, held.record
        assert contents is not None
        assert record is not None
        folder.write(contents, record)
        loaded = folder.read()
        assert loaded is not None
        assert_same({name: loaded.contents[name] for name in states}, states)


def test_a_signal_handler_finds_a_whole_epoch_or_none_at_every_moment() -> None:
    held = HeldEpoch()
    weights = [torch.zeros(10) for _ in range(5)]
    seen: list[float | None] = []

    def look(frame: FrameType, event: str, argument: object) -> object:
        if "checkpoints" not in frame.f_code.co_filename:
            return None
        sys.settrace(None)
        contents, record = held.contents, held.record
        if contents is not None and record is not None:
            values = {float(value) for weight in contents.values() for value in weight}
            assert values == {float(record.epoch)}
            seen.append(values.pop())
        else:
            seen.append(None)
        sys.settrace(look)
        frame.f_trace = look
        return look

    for epoch in range(1, 4):
        for weight in weights:
            weight.fill_(epoch)
        sys.settrace(look)
        try:
            held.hold({str(number): weight for number, weight in enumerate(weights)}, record_of(epoch))
        finally:
            sys.settrace(None)
    assert {1.0, 2.0, None} <= set(seen)


def test_a_copy_that_another_thread_writes_is_not_written_over() -> None:
    held = HeldEpoch()
    torn = []
    is_over = threading.Event()

    def leave() -> None:
        while not is_over.is_set():
            contents = held.contents
            if contents is not None:
                first = [value_of(contents) for _ in range(20)]
                torn.extend([] if len(set(first)) == 1 else first)

    reader = threading.Thread(target=leave)
    reader.start()
    for epoch in range(300):
        assert held.hold(contents_of(epoch, numel=5000), record_of(epoch))
    is_over.set()
    reader.join()
    assert torn == []

"""The fast interpreter for plain pickles: right, or not at all."""

from __future__ import annotations

import contextlib
import io
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sucrose.errors import CorruptionError
from sucrose.snapshot.plain_pickle import BeyondPlainError, load_plain
from sucrose.snapshot.torch_pickle import StoragePickler

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.any_backend

STATE = OrderedDict(
    tensor=torch.arange(6.0).view(2, 3),
    parameter=torch.nn.Parameter(torch.ones(2)),
    plain=[1, 300, 70_000, -1, 2**70, 2.5, None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), "x" * 300],
    nested={"a": {1: []}},
    module=torch.nn.Linear(2, 2).state_dict(),
)


def pickled(value: Any) -> tuple[bytes, Callable[[Any], torch.TypedStorage]]:
    file = io.BytesIO()
    pickler = StoragePickler(file)
    pickler.dump(value)

    def load_storage(persistent_id: Any) -> torch.TypedStorage:
        _, kind, key, _, _ = persistent_id
        return torch.TypedStorage(wrap_storage=pickler.storages[int(key)], dtype=kind.dtype, _internal=True)

    return file.getvalue(), load_storage


DATA, LOAD_STORAGE = pickled(STATE)


def test_a_state_comes_back_from_its_plain_pickle() -> None:
    found = load_plain(DATA, LOAD_STORAGE)
    assert type(found) is OrderedDict
    assert found["plain"] == STATE["plain"]
    assert found["nested"] == STATE["nested"]
    assert torch.equal(found["tensor"], STATE["tensor"])
    assert type(found["parameter"]) is torch.nn.Parameter
    assert found["module"]._metadata == STATE["module"]._metadata


@pytest.mark.parametrize("value", [{1}, torch.float32, torch.eye(2).to_sparse(), b"bytes", 1j, torch.device("cpu")])
def test_what_is_not_plain_is_left_to_others(value: Any) -> None:
    data, load_storage = pickled([STATE, value])
    with pytest.raises(BeyondPlainError):
        load_plain(data, load_storage)


edits = st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(0, 255), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=500, deadline=None)
@given(edits)
@example([(0, 0, True)])
def test_a_damaged_pickle_is_never_more_than_beyond_plain_or_corrupt(changes: list[tuple[int, int, bool]]) -> None:
    data = bytearray(DATA)
    for position, value, inserted in changes:
        data[position : position + (not inserted)] = bytes([value])
    with contextlib.suppress(BeyondPlainError, CorruptionError):
        load_plain(bytes(data), LOAD_STORAGE)


def test_a_pickle_cut_off_anywhere_is_beyond_plain() -> None:
    for nbytes in range(len(DATA)):
        with pytest.raises(BeyondPlainError):
            load_plain(DATA[:nbytes], LOAD_STORAGE)

"""Samples of everything that is read from a disk, changed here and there: right, or refused."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import pytest
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLOW = {"snapshot": 40, "single_file": 60, "object_file": 60, "encoded_chunks": 60, "catalog_folder": 60}
EXAMPLES = 150

edits = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("insert"), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("remove"), st.integers(0, 1 << 16), st.integers(1, 40)),
        st.tuples(st.just("repeat"), st.integers(0, 1 << 16), st.integers(1, 40)),
        st.tuples(st.just("cut"), st.integers(0, 1 << 16), st.none()),
    ),
    max_size=4,
)


@cache
def seeds_of(target: str) -> tuple[bytes, ...]:
    return tuple(importlib.import_module(f"fuzz_targets.{target}").seeds().values())


def changed(data: bytes, kind: str, at: int, argument: Any) -> bytes:
    at %= len(data) + 1
    if kind == "put":
        return data[:at] + argument + data[at + len(argument) :]
    if kind == "insert":
        return data[:at] + argument + data[at:]
    if kind == "remove":
        return data[:at] + data[at + argument :]
    if kind == "repeat":
        return data[: at + argument] + data[at:]
    return data[:at]


@pytest.mark.filterwarnings("ignore")  # torch's, of what a damaged pickle asks for
@pytest.mark.parametrize("target", TARGETS)
def test_changed_bytes_are_read_right_or_refused(target: str) -> None:
    check = importlib.import_module(f"fuzz_targets.{target}").check

    @settings(max_examples=SLOW.get(target, EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(seeds_of(target)), edits)
    def run(data: bytes, several: list[tuple[str, int, Any]]) -> None:
        for edit in several:
            data = changed(data, *edit)
        check(data)

    run()

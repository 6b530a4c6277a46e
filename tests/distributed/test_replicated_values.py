"""Which values are the same on all ranks, and who writes them."""

from __future__ import annotations

import logging

import pytest

from sucrose.errors import ConfigError
from sucrose.snapshot.collective.agreement import differences
from sucrose.snapshot.collective.arguments import TakeArguments, merged
from sucrose.snapshot.collective.assignment import HeldShards, writers_of_replicated, writers_of_shards
from sucrose.snapshot.collective.replicated_values import ReplicatedValue


def value(path: str, nbytes: int = 0, **fields: object) -> ReplicatedValue:
    return ReplicatedValue(path, "torch.float32", nbytes=nbytes, **fields)  # type: ignore[arg-type]  # of one class


def given(target: str = "/a", globs: tuple[str, ...] = (), digest_kind: str = "xxh3-128") -> TakeArguments:
    return TakeArguments(target=target, replicated=globs, digest_kind=digest_kind, is_durable=True)


def loads(values: list[ReplicatedValue], writers: dict[str, int], ranks: int) -> list[int]:
    return [sum(each.nbytes for each in values if writers[each.path] == rank) for rank in range(ranks)]


def test_ranks_get_about_as_many_bytes_to_write() -> None:
    values = [value(f"layer{index}", 1000 + 37 * index) for index in range(200)]
    found = loads(values, writers_of_replicated(values, 8), 8)
    assert max(found) - min(found) <= 1000
    assert sum(found) == sum(each.nbytes for each in values)


def test_the_order_in_which_a_rank_comes_across_values_does_not_matter() -> None:
    values = [value(f"layer{index}", 100 * (index % 3)) for index in range(30)]
    assert writers_of_replicated(values, 4) == writers_of_replicated(reversed(values), 4)


def test_tied_tensors_are_written_by_one_rank() -> None:
    values = [value("a", 80), value("b", 80, tied_to="a"), value("c", 80), value("d", 10)]
    writers = writers_of_replicated(values, 2)
    assert writers["a"] == writers["b"] != writers["c"]


def test_buffers_of_ddp_modules_are_those_of_rank_0() -> None:
    values = [value(f"running_mean{index}", 1000, is_of_rank_0=True) for index in range(4)]
    values += [value("weight", 10)]
    writers = writers_of_replicated(values, 4)
    assert {writers[each.path] for each in values[:4]} == {0}
    assert writers["weight"] != 0


def test_shards_that_several_ranks_hold_are_written_by_one_of_them_each() -> None:
    held = [HeldShards(f"a{index}", 100, (0, 2)) for index in range(6)]
    held += [HeldShards(f"b{index}", 100, (1, 3)) for index in range(6)]
    writers = writers_of_shards(held)
    assert sorted(writers[f"a{index}"] for index in range(6)) == [0, 0, 0, 2, 2, 2]
    assert sorted(writers[f"b{index}"] for index in range(6)) == [1, 1, 1, 3, 3, 3]


def test_a_value_counts_as_replicated_only_where_all_ranks_have_it_alike() -> None:
    first = [value("same", 4), value("other size", 4), value("only here", 4), value("text", digest=b"a")]
    second = [value("same", 4), value("other size", 8), value("only there", 4), value("text", digest=b"b")]
    assert differences([first, second]) == {"other size", "only here", "only there", "text"}


def test_only_globs_that_all_ranks_have_given_count(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sucrose"):
        agreed = merged({0: given(globs=("b/*", "a/*")), 3: given(globs=("a/*", "c"))})
    assert agreed.replicated == ("a/*",)
    assert "b/*, c" in caplog.text


def test_the_path_of_rank_0_counts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sucrose"):
        assert merged({0: given("/a"), 1: given("/b")}).target == "/a"
    assert "rank 1" in caplog.text
    assert "'/b'" in caplog.text


def test_a_key_to_sign_with_that_only_some_ranks_have_is_an_error() -> None:
    with pytest.raises(ConfigError, match="rank 2 and rank 0"):
        merged({0: given(), 2: given(digest_kind="sha256-128")})

"""Which generations the rules keep."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sucrose import Catalog, Generation, Retention
from sucrose.errors import ConfigError

pytestmark = pytest.mark.any_backend

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS


def generation(
    step: int,
    *,
    committed_ns: int = 0,
    timeline: int = 0,
    pinned: bool = False,
    metrics: dict[str, float] | None = None,
    salt: int = 0,
) -> Generation:
    return Generation(
        step=step,
        path="",
        committed_ns=committed_ns,
        metrics=metrics or {},
        nbytes=1,
        pinned=pinned,
        timeline=timeline,
        durable=True,
        id=f"step_{step}-{salt:08x}",
    )


def kept_steps(retention: Retention, generations: list[Generation]) -> list[int]:
    kept = retention.kept(generations)
    return sorted(generation.step for generation in generations if generation.id in kept)


TEN = [generation(step, committed_ns=step) for step in range(1, 11)]


def test_without_a_rule_all_are_kept() -> None:
    assert Retention().keeps_all
    assert kept_steps(Retention(), TEN) == list(range(1, 11))


def test_the_newest_n_are_those_with_the_highest_steps_not_names() -> None:
    generations = [generation(step) for step in (9998, 10000, 9999, 10001)]
    assert kept_steps(Retention(keep_last=2), generations) == [10000, 10001]


def test_a_new_timeline_is_newer_than_higher_steps_of_the_old_one() -> None:
    generations = [generation(300), generation(200), generation(250, timeline=1), generation(150, timeline=1)]
    assert kept_steps(Retention(keep_last=2), generations) == [150, 250]


def test_every_nth_step_is_kept_and_the_newest_always() -> None:
    assert kept_steps(Retention(keep_every=4), TEN) == [4, 8, 10]


def test_rules_add_up_and_pinned_ones_are_kept() -> None:
    generations = [*TEN[:2], generation(3, pinned=True), *TEN[3:]]
    assert kept_steps(Retention(keep_last=2, keep_every=5), generations) == [3, 5, 9, 10]


def test_the_newest_of_each_hour_and_day_that_has_any() -> None:
    times = [0, HOUR_NS - 1, HOUR_NS, 5 * HOUR_NS, 5 * HOUR_NS + 1, DAY_NS - 1, DAY_NS, 9 * DAY_NS]
    generations = [generation(step, committed_ns=time) for step, time in enumerate(times)]
    assert kept_steps(Retention(keep_hourly=3), generations) == [5, 6, 7]
    assert kept_steps(Retention(keep_hourly=5), generations) == [2, 4, 5, 6, 7]
    assert kept_steps(Retention(keep_daily=1), generations) == [7]
    assert kept_steps(Retention(keep_daily=3), generations) == [5, 6, 7]
    assert kept_steps(Retention(keep_daily=9), generations) == [5, 6, 7]


def test_the_best_are_the_lowest_or_the_highest_and_never_nan_or_missing() -> None:
    values = [0.5, math.nan, 0.1, 0.9, None, -math.inf, 0.1]
    generations = [
        generation(step, metrics={} if value is None else {"loss": value}) for step, value in enumerate(values)
    ]
    newest = len(values) - 1
    assert kept_steps(Retention(keep_best=("loss", 2)), [*generations, generation(99)]) == [5, newest, 99]
    assert kept_steps(Retention(keep_best=("loss", 2, "max")), [*generations, generation(99)]) == [0, 3, 99]
    assert kept_steps(Retention(keep_best=("accuracy", 5)), generations) == [newest]
    assert kept_steps(Retention(keep_best=("loss", 99)), generations) == [0, 2, 3, 5, 6]


generations_of_any_kind = st.lists(
    st.builds(
        generation,
        st.integers(0, 30),
        committed_ns=st.integers(0, 4 * DAY_NS),
        timeline=st.integers(0, 2),
        pinned=st.booleans(),
        metrics=st.dictionaries(st.sampled_from(["a", "b"]), st.floats()),
        salt=st.integers(0, 2**32 - 1),
    ),
    unique_by=lambda generation: generation.id,
    max_size=25,
)
counts = st.none() | st.integers(1, 6)
any_rules: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "keep_last": counts,
        "keep_every": counts,
        "keep_hourly": counts,
        "keep_daily": counts,
        "keep_best": st.none()
        | st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 6), st.sampled_from(["min", "max"])),
    }
)


@given(generations=generations_of_any_kind, rules=any_rules, shuffle=st.randoms())
def test_what_is_kept_is_the_union_of_what_each_rule_keeps_in_whatever_order(
    generations: list[Generation], rules: dict[str, Any], shuffle: Any
) -> None:
    retention = Retention(**rules)
    kept = retention.kept(generations)
    assert kept <= {generation.id for generation in generations}
    assert {generation.id for generation in generations if generation.pinned} <= kept
    if generations:
        assert max(generations, key=lambda generation: generation.order).id in kept
    each = [Retention(**{rule: value}).kept(generations) for rule, value in rules.items() if value is not None]
    assert kept == (set.union(*each) if each else {generation.id for generation in generations})
    shuffled = list(generations)
    shuffle.shuffle(shuffled)
    assert retention.kept(shuffled) == kept


@given(generations=generations_of_any_kind, rules=any_rules)
def test_what_is_kept_once_is_kept_again_when_the_rest_is_gone(
    generations: list[Generation], rules: dict[str, Any]
) -> None:
    retention = Retention(**rules)
    kept = retention.kept(generations)
    assert retention.kept([generation for generation in generations if generation.id in kept]) == kept


@given(generations=generations_of_any_kind, count=st.integers(1, 6), mode=st.sampled_from(["min", "max"]))
def test_none_of_the_others_is_better_than_the_best(generations: list[Generation], count: int, mode: str) -> None:
    kept = Retention(keep_best=("a", count, mode)).kept(generations)
    sign = 1 if mode == "min" else -1
    values = sorted(sign * value for g in generations if not math.isnan(value := g.metrics.get("a", math.nan)))
    best = values[:count]
    of_kept = sorted(
        sign * value for g in generations if g.id in kept and not math.isnan(value := g.metrics.get("a", math.nan))
    )
    assert of_kept[: len(best)] == best


@pytest.mark.parametrize(
    "rules",
    [
        {"keep_last": 0},
        {"keep_last": -1},
        {"keep_last": 1.5},
        {"keep_last": True},
        {"keep_every": 0},
        {"keep_hourly": 0},
        {"keep_daily": "2"},
        {"keep_best": ("loss", 0)},
        {"keep_best": ("loss", None)},
        {"keep_best": "loss"},
        {"keep_best": (1, 2)},
        {"keep_best": ("loss", 1, "highest")},
    ],
    ids=str,
)
def test_rules_without_sense_are_refused(tmp_path: Any, rules: dict[str, Any]) -> None:
    [name] = rules
    for use in (Retention, lambda **rules: Catalog(tmp_path, **rules)):
        with pytest.raises(ConfigError, match=name):
            use(**rules)


def test_a_catalog_takes_its_rules_in_one_way_only(tmp_path: Any) -> None:
    assert Catalog(tmp_path).retention == Retention()
    assert Catalog(tmp_path, 3).retention == Catalog(tmp_path, keep_last=3).retention == Retention(keep_last=3)
    assert Catalog(tmp_path, Retention(keep_every=2)).retention == Retention(keep_every=2)
    with pytest.raises(ConfigError, match="keep_last"):
        Catalog(tmp_path, 3, keep_last=3)
    with pytest.raises(ConfigError):
        Catalog(tmp_path, 0)

"""Which generations are kept: pure functions, without files or clocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from sucrose.errors import ConfigError

_HOUR_NS = 3600 * 10**9
_DAY_NS = 24 * _HOUR_NS
_RULES = ("keep_last", "keep_every", "keep_hourly", "keep_daily")


class Candidate(Protocol):
    """What the rules look at; a `Generation` is one."""

    @property
    def id(self) -> str:
        """Names it among the others."""
        ...

    @property
    def order(self) -> Any:
        """Sorts candidates from the oldest to the newest."""
        ...

    @property
    def step(self) -> int:
        """For `Retention.keep_every`."""
        ...

    @property
    def committed_ns(self) -> int:
        """When it was written, in nanoseconds since 1970."""
        ...

    @property
    def pinned(self) -> bool:
        """Whether it is kept whatever the rules say."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """For `Retention.keep_best`."""
        ...


_Candidate = TypeVar("_Candidate", bound=Candidate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Rules; a generation that any of them keeps is kept, and so are the newest one and the pinned ones.

    Without any rule all are kept.

    Attributes:
        keep_last: the newest N.
        keep_every: those whose step is a multiple of N.
        keep_hourly: the newest of each of the last N hours (UTC, by the time of the commit) that have any.
        keep_daily: likewise of days.
        keep_best: ``(metric, K)``: the K with the lowest value; ``(metric, K, "max")``: the highest. Those
            without the metric, or with NaN, are not among them; of equal ones the newer is better.

    Raises:
        ConfigError: a number is not positive, or the mode is neither "min" nor "max".

    Example:
        >>> from sucrose import Retention
        >>> Retention(keep_last=3, keep_best=("loss", 1)).keep_best
        ('loss', 1, 'min')
    """

    keep_last: int | None = None
    keep_every: int | None = None
    keep_hourly: int | None = None
    keep_daily: int | None = None
    keep_best: tuple[str, int] | tuple[str, int, str] | None = None

    def __post_init__(self) -> None:
        for rule in _RULES:
            _check_count(rule, getattr(self, rule))
        if self.keep_best is not None:
            object.__setattr__(self, "keep_best", _checked_best(self.keep_best))

    @property
    def keeps_all(self) -> bool:
        """Whether there is no rule."""
        return self.keep_best is None and all(getattr(self, rule) is None for rule in _RULES)

    def kept(self, generations: Iterable[Candidate]) -> set[str]:
        """Ids of those of a catalog's generations that are kept."""
        newest_first = _newest_first(generations)
        if self.keeps_all:
            return {generation.id for generation in newest_first}
        kept = newest_first[: self.keep_last or 1]
        kept += [generation for generation in newest_first if generation.pinned]
        if self.keep_every is not None:
            kept += [generation for generation in newest_first if generation.step % self.keep_every == 0]
        if self.keep_hourly is not None:
            kept += _latest_of_each(
                newest_first, lambda generation: generation.committed_ns // _HOUR_NS, self.keep_hourly
            )
        if self.keep_daily is not None:
            kept += _latest_of_each(
                newest_first, lambda generation: generation.committed_ns // _DAY_NS, self.keep_daily
            )
        if self.keep_best is not None:
            kept += self.best(newest_first)
        return {generation.id for generation in kept}

    def best(self, generations: Iterable[_Candidate]) -> list[_Candidate]:
        """Those that `keep_best` keeps, the best first; none without that rule."""
        return [] if self.keep_best is None else _best(_newest_first(generations), *self.keep_best)


def retention_of(keep: Retention | int | None, rules: Mapping[str, object]) -> Retention:
    """What the arguments of `Catalog` mean.

    Raises:
        ConfigError: they contradict each other, or one of them is not allowed.
    """
    given = {rule: value for rule, value in rules.items() if value is not None}
    if keep is None:
        return Retention(**given)  # type: ignore[arg-type]  # checked by it
    if given:
        raise ConfigError(f"keep={keep!r} and {', '.join(given)} are given: put all rules into one Retention")
    return keep if isinstance(keep, Retention) else Retention(keep_last=keep)


def _check_count(rule: str, count: object) -> None:
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"{rule}={count!r}: expected a whole number from 1, or None for no such rule")


def _checked_best(best: object) -> tuple[str, int, str]:
    if not isinstance(best, (tuple, list)) or len(best) not in (2, 3) or not isinstance(best[0], str):
        raise ConfigError(f'keep_best={best!r}: expected (metric, K) or (metric, K, "max")')
    _check_count("K of keep_best", best[1])
    mode = best[2] if len(best) == 3 else "min"
    if best[1] is None or mode not in ("min", "max"):
        raise ConfigError(f'keep_best={best!r}: expected (metric, K), (metric, K, "min") or (metric, K, "max")')
    return best[0], best[1], mode


def _newest_first(generations: Iterable[_Candidate]) -> list[_Candidate]:
    return sorted(generations, key=attrgetter("order"), reverse=True)


def _latest_of_each(
    newest_first: list[_Candidate], period_of: Callable[[_Candidate], Hashable], count: int
) -> list[_Candidate]:
    """Of each period its last commit; of the last `count` periods that have any."""
    latest: dict[Hashable, _Candidate] = {}
    for generation in sorted(newest_first, key=attrgetter("committed_ns"), reverse=True):  # stable
        latest.setdefault(period_of(generation), generation)
    return list(latest.values())[:count]


def _best(newest_first: list[_Candidate], metric: str, count: int, mode: str = "min") -> list[_Candidate]:
    rated = [generation for generation in newest_first if not math.isnan(generation.metrics.get(metric, math.nan))]
    sign = 1 if mode == "min" else -1
    return sorted(rated, key=lambda generation: sign * generation.metrics[metric])[:count]  # stable

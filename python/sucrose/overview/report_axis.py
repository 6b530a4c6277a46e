"""An axis: from values to positions, and where its ticks are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sucrose.overview.text import tick_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

_N_TICKS = 5  # about
_PADDING = 0.04  # of the extent, at both ends
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """Straight or logarithmic.

    Attributes:
        low: the value at `begin`; its logarithm to base 10, where the axis is logarithmic.
        high: the same at `end`.
        begin: a position in pixels.
        end: another one, smaller or larger.
        is_log: whether it is logarithmic.
    """

    low: float
    high: float
    begin: float
    end: float
    is_log: bool = False

    @classmethod
    def over(
        cls, values: NDArray[np.float64], begin: float, end: float, *, is_log: bool = False, is_exact: bool = False
    ) -> Axis:
        """An axis with room for all finite values.

        Args:
            values: NaN do not count.
            begin: where it begins, in pixels.
            end: where it ends.
            is_log: only for positive values.
            is_exact: whether it ends at the values, without padding.
        """
        finite = values[np.isfinite(values)]
        if is_log:
            finite = np.log10(finite)
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        if low == high:
            spread = max(abs(low) * 0.1, 0.5 if is_exact or is_log else 1e-9) if low else 1.0
            low, high = low - spread, high + spread
        elif not is_exact:
            padding = (high - low) * _PADDING
            low, high = low - padding, high + padding
        return cls(low, high, begin, end, is_log)

    def positions(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """In pixels."""
        scaled = np.log10(values) if self.is_log else values
        return self.begin + (scaled - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and what is written there."""
        if self.is_log and self.high - self.low >= 1.5:
            first, last = math.ceil(self.low), math.floor(self.high)
            stride = max(1, math.ceil((last - first) / _N_TICKS))
            return [(self._position(power), f"1e{power}") for power in range(first, last + 1, stride)]
        low, high = (10**self.low, 10**self.high) if self.is_log else (self.low, self.high)
        spacing = _spacing((high - low) / _N_TICKS)
        multiples = range(math.ceil(low / spacing), math.floor(high / spacing) + 1)
        values = [multiple * spacing for multiple in multiples if multiple > 0 or not self.is_log]
        largest = max(map(abs, values), default=0.0)
        ticks = {tick_text(value, spacing, largest): math.log10(value) if self.is_log else value for value in values}
        return [(self._position(scaled), text) for text, scaled in ticks.items()]

    def content(self) -> dict[str, Any]:
        """For the script, which computes positions of its own."""
        return {"low": self.low, "high": self.high, "isLog": self.is_log}

    def _position(self, scaled: float) -> float:
        share = (scaled - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 1)


def _spacing(at_least: float) -> float:
    """A round number."""
    power = 10.0 ** math.floor(math.log10(at_least))
    return next(step * power for step in _STEPS if step * power >= at_least * (1 - 1e-9))

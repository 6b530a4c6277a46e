"""Values as people read them."""

from __future__ import annotations

import math
from datetime import datetime, timezone

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_THOUSANDS = ("", "k", "M", "G", "T")


def nbytes_text(nbytes: int) -> str:
    """Three or four digits and a unit.

    Example:
        >>> nbytes_text(3 * 2**20)
        '3.0 MiB'
    """
    value = float(nbytes)
    for unit in _BYTE_UNITS:
        if value < 1000 or unit == _BYTE_UNITS[-1]:
            break
        value /= 1024
    return f"{nbytes} B" if unit == "B" else f"{value:.1f} {unit}"


def number_text(value: float) -> str:
    """Five digits at most, or a whole number as it is.

    Example:
        >>> number_text(12345678), number_text(0.123456789)
        ('12345678', '0.12346')
    """
    return str(value) if isinstance(value, int) else f"{value:.5g}"


def tick_text(value: float, spacing: float, largest: float) -> str:
    """A number beside an axis.

    Args:
        value: a multiple of `spacing`.
        spacing: between neighbours, which says how many digits it takes.
        largest: of all multiples there, regardless of the sign, which says whether they are thousands or millions.

    Example:
        >>> tick_text(2500.0, 2500.0, 12500.0), tick_text(0.30000000000000004, 0.1, 0.9)
        ('2.5k', '0.3')
    """
    if value == 0:
        return "0"
    if largest >= 1e15 or spacing < 1e-5:
        return f"{value:.{min(17, math.ceil(math.log10(largest / spacing)) + 2)}g}"
    power = min(int(math.log10(largest)) // 3, len(_THOUSANDS) - 1) if largest >= 10_000 else 0
    while power and _decimals(spacing / 1000**power) > 2:
        power -= 1
    text = f"{value / 1000**power:.{_decimals(spacing / 1000**power)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + _THOUSANDS[power]


def _decimals(spacing: float) -> int:
    """How many digits behind the point tell multiples apart."""
    return next((count for count in range(8) if abs(round(spacing, count) - spacing) < 1e-3 * spacing), 8)


def time_text(time_ns: int) -> str:
    """UTC to the minute."""
    return datetime.fromtimestamp(time_ns // 10**9, tz=timezone.utc).strftime("%Y-%m-%d %H:%M")

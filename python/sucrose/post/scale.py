"""Which axes are logarithmic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from sucrose.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LogScale = bool | Literal["auto", "x", "y", "both"]

_CHOICES = ("auto", True, False, "x", "y", "both")
_MIN_DECADES = 2
_TRIMMED_SHARE = 0.01
_MIN_COUNT_TO_TRIM = 10


def log_axes(log_scale: LogScale, values: NDArray[np.float64]) -> tuple[bool, bool]:
    """Whether x and y are logarithmic.

    Args:
        log_scale: True means y; "auto" means y where `suits_log_scale` says so.
        values: all that will be drawn along y.

    Raises:
        ConfigError: `log_scale` is none of these.
    """
    if log_scale not in _CHOICES:
        raise ConfigError(f"log_scale={log_scale!r}: expected 'auto', True, False, 'x', 'y' or 'both'")
    if log_scale == "auto":
        return False, suits_log_scale(values)
    return log_scale in ("x", "both"), log_scale is True or log_scale in ("y", "both")


def suits_log_scale(values: NDArray[np.float64]) -> bool:
    """Whether values are told apart better on a logarithmic scale.

    They are where all finite ones are positive and span two decades or more. From ten values on, the
    largest and the smallest hundredth (at least one of each) do not count for the span: one spike is no reason.

    Example:
        >>> import numpy as np
        >>> suits_log_scale(np.geomspace(1, 1e-4, 50)), suits_log_scale(np.linspace(1, 0.1, 50))
        (True, False)
    """
    finite = np.sort(values[np.isfinite(values)])
    if not len(finite) or finite[0] <= 0:
        return False
    n_trimmed = math.ceil(_TRIMMED_SHARE * len(finite)) if len(finite) >= _MIN_COUNT_TO_TRIM else 0
    return bool(np.log10(finite[-1 - n_trimmed]) - np.log10(finite[n_trimmed]) >= _MIN_DECADES - 1e-9)

"""A curve without its noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sucrose.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def smooth(values: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """The exponential moving average that TensorBoard draws: debiased, so that it begins at the first value.

    Values that are not finite stay where they are and count nothing.

    Args:
        values: of one curve, in the order of its steps.
        weight: from 0, which changes nothing, to below 1.

    Raises:
        ConfigError: `weight` is not in that range.

    Example:
        >>> import numpy as np
        >>> smooth(np.array([1.0, 3.0]), 0.5).round(3).tolist()
        [1.0, 2.333]
    """
    if not 0 <= weight < 1:
        raise ConfigError(f"smoothing={weight!r}: expected a number from 0 to below 1, such as 0.6")
    if weight == 0:
        return values
    result: NDArray[np.float64] = values.copy()
    average, bias = 0.0, 1.0
    for index in np.flatnonzero(np.isfinite(values)).tolist():
        average = average * weight + (1 - weight) * float(values[index])
        bias *= weight
        result[index] = average / (1 - bias)
    return result

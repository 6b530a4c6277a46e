"""Curves with fewer points that look the same."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEPT_OF_EACH = 5


def thin(values: NDArray[np.float64], limit: int) -> NDArray[np.intp]:
    """Which points of a curve to draw: at most `limit` of them, and all where there are not more.

    The curve is cut into equal parts; of each the first, the last, the lowest and the highest point are kept, and one
    that is not finite where there is one, so that neither spikes nor gaps get lost.

    Args:
        values: of the curve, in the order of drawing.
        limit: at least 5.

    Example:
        >>> import numpy as np
        >>> values = np.zeros(100)
        >>> values[37] = 1
        >>> thin(values, 10).tolist()
        [0, 37, 49, 50, 99]
    """
    if len(values) <= limit:
        return np.arange(len(values))
    kept: set[int] = set()
    bounds = np.linspace(0, len(values), limit // _KEPT_OF_EACH + 1).astype(int).tolist()
    for begin, end in pairwise(bounds):
        part = values[begin:end]
        finite = np.isfinite(part)
        kept |= {begin, end - 1}
        if finite.any():
            kept.add(begin + int(np.where(finite, part, np.inf).argmin()))
            kept.add(begin + int(np.where(finite, part, -np.inf).argmax()))
        if not finite.all():
            kept.add(begin + int(finite.argmin()))
    return np.array(sorted(kept))

"""One curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The scalars of one tag of one run; three arrays of equal length.

    Attributes:
        steps: ascending, none twice.
        values: may be NaN or infinite.
        wall_times: when each was written, in seconds since 1970.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    wall_times: NDArray[np.float64]

    @classmethod
    def of_written(
        cls, steps: NDArray[np.int64], values: NDArray[np.float64], wall_times: NDArray[np.float64]
    ) -> Series:
        """Sorts points that are in the order of their writing; where steps are equal, the last one written stays.

        Example:
            >>> import numpy as np
            >>> Series.of_written(np.array([1, 2, 1]), np.array([9.0, 8.0, 7.0]), np.zeros(3)).values.tolist()
            [7.0, 8.0]
        """
        if np.all(steps[1:] > steps[:-1]):
            return cls(steps, values, wall_times)
        order = np.argsort(steps, kind="stable")
        ordered = steps[order]
        is_last = np.append(ordered[1:] != ordered[:-1], [True] if len(steps) else [])
        stays = order[is_last]
        return cls(steps[stays], values[stays], wall_times[stays])

    def __len__(self) -> int:
        return len(self.steps)

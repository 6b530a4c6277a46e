"""The newest values of what a program measures, and their curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sucrose.scenarios.tensorboard import ScenarioWriter


class Metrics:
    """The newest value of each metric in an epoch.

    Thread-safe, and usable in signal handlers: `newest` is only ever exchanged.

    Attributes:
        newest: values by name, finite or not; not to be changed.

    Example:
        >>> from sucrose.scenarios.metrics import Metrics
        >>> metrics = Metrics()
        >>> metrics.log({"train": {"loss": 0.5}, "lr": 1e-3}, step=7)
        >>> metrics.newest
        {'train/loss': 0.5, 'lr': 0.001}
    """

    def __init__(self) -> None:
        self.newest: Mapping[str, float] = {}

    def log(self, metrics: Mapping[str, Any], step: int, writer: ScenarioWriter | None = None) -> None:
        """Notes values, and writes them as scalars.

        Args:
            metrics: numbers, tensors and arrays of one number, or further mappings, whose names are joined with ``/``.
            step: the step they belong to.
            writer: where the curves go.

        Raises:
            TypeError: a value is not one number, or a name is not a string; nothing is noted or written then.
        """
        values = dict(_flat(metrics, ""))
        self.newest = {**self.newest, **values}
        if writer is not None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

    def begin_epoch(self) -> None:
        """What was measured up to here belongs to the epoch before."""
        self.newest = {}

    def restore(self, newest: Mapping[str, float]) -> None:
        """Goes back to the values of a checkpoint."""
        self.newest = dict(newest)


def _flat(metrics: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise TypeError(f"the name {name!r} of a metric is of type {type(name).__name__}, not a string")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, _number(prefix + name, value)


def _number(name: str, value: Any) -> float:
    shape = tuple(getattr(value, "shape", ()))
    number = value
    if callable(getattr(value, "item", None)):  # a tensor, an array, or a scalar of NumPy's
        if math.prod(shape) != 1:
            raise TypeError(
                f"the metric {name!r} has the shape {shape}, not one number: log its mean, or use writer.add_histogram"
            )
        number = value.item()
    if not isinstance(number, Real):
        raise TypeError(f"the metric {name!r} is of type {type(value).__name__}, not a number")
    return float(number)

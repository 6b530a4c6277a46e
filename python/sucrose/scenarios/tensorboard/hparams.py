"""Hyperparameters as TensorBoard's table wants them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from torch.utils.tensorboard.summary import hparams


def hparams_summaries(
    values: Mapping[str, Any],
    metrics: Mapping[str, Any] | Iterable[str] | None,
    domains: Mapping[str, Sequence[Any]] | None,
) -> list[Any]:
    """The summaries that make a run a session of the table.

    Args:
        values: by name.
        metrics: names of the curves that the table shows. None for all scalars: then what describes the experiment
            is left out, and TensorBoard gathers that from all runs, where otherwise the first run speaks for all.
        domains: all values that a hyperparameter can have, by name.
    """
    names = () if metrics is None else metrics
    experiment, start, end = hparams(  # type: ignore[no-untyped-call]  # torch
        {name: _shown(value) for name, value in values.items()},
        dict.fromkeys(names),
        {name: [_shown(value) for value in domain] for name, domain in (domains or {}).items()},
    )
    return [start, end] if metrics is None else [experiment, start, end]


def _shown(value: Any) -> bool | int | float | str | None:
    """The value, or text for what the table cannot hold; None is left out by torch."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Real):
        try:
            number = float(value)
        except OverflowError:  # an int
            return str(value)
        # One that is not finite would break the table of all runs: JSON has no such numbers.
        return number if math.isfinite(number) else str(value)
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    item = getattr(value, "item", None)
    if callable(item) and not getattr(value, "shape", ()):
        return _shown(item())
    return str(value)

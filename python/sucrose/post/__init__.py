"""What runs have logged: data frames, plots.

pandas and matplotlib come with the extra `plot`, and are imported where they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sucrose.post.evolution import plot_evolution as plot_evolution
    from sucrose.post.log_data_frame import LogDataFrame as LogDataFrame

_HOME = {"LogDataFrame": "sucrose.post.log_data_frame", "plot_evolution": "sucrose.post.evolution"}

__all__ = ["LogDataFrame", "plot_evolution"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return list(__all__)

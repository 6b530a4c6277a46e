"""The import name of torchsnapshot for programs that were written for it. Re-exports `sucrose`."""

from __future__ import annotations

import warnings
from importlib.metadata import distributions

from sucrose import PendingSnapshot, RNGState, Snapshot, StateDict, Stateful

__all__ = ["PendingSnapshot", "RNGState", "Snapshot", "StateDict", "Stateful"]


def _warn_of_other_owners() -> None:
    """Two distributions with one import name overwrite each other's files."""
    for distribution in distributions():
        name = distribution.metadata["Name"] or ""
        if name.lower() in ("torchsnapshot", "torchsnapshot-nightly"):
            warnings.warn(
                f"the distribution {name!r} is installed too and owns the import name "
                f"'torchsnapshot' as well: run 'pip uninstall {name}', then reinstall torch-sucrose",
                stacklevel=3,
            )


_warn_of_other_owners()

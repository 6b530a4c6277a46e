"""Checkpoints for PyTorch: application state to storage and back at the speed of the hardware.

`Snapshot` saves and restores whole applications, in the background where wanted, `save` and `load`
single files that torch reads too. Importing this package is light; each name brings in what it needs
when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sucrose.engine import build_info as build_info
    from sucrose.snapshot.pending import PendingSnapshot as PendingSnapshot
    from sucrose.snapshot.restore import RestoreReport as RestoreReport
    from sucrose.snapshot.rng_state import RNGState as RNGState
    from sucrose.snapshot.single_file import load as load
    from sucrose.snapshot.single_file import save as save
    from sucrose.snapshot.snapshot import Snapshot as Snapshot
    from sucrose.snapshot.state_dict import StateDict as StateDict
    from sucrose.snapshot.stateful import Stateful as Stateful
    from sucrose.snapshot.verify import VerifyReport as VerifyReport

_HOME = {
    "PendingSnapshot": "sucrose.snapshot.pending",
    "RNGState": "sucrose.snapshot.rng_state",
    "RestoreReport": "sucrose.snapshot.restore",
    "Snapshot": "sucrose.snapshot.snapshot",
    "StateDict": "sucrose.snapshot.state_dict",
    "Stateful": "sucrose.snapshot.stateful",
    "VerifyReport": "sucrose.snapshot.verify",
    "build_info": "sucrose.engine",
    "load": "sucrose.snapshot.single_file",
    "save": "sucrose.snapshot.single_file",
}

__all__ = [
    "PendingSnapshot",
    "RNGState",
    "RestoreReport",
    "Snapshot",
    "StateDict",
    "Stateful",
    "VerifyReport",
    "build_info",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version("torch-sucrose")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

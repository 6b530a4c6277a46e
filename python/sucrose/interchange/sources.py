"""Checkpoints to read from: one interface for all kinds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from sucrose.interchange.kinds import Kind, recognize
from sucrose.storage import location_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sucrose.interchange.listing import Listed


class Source(Protocol):
    """An opened checkpoint. Not thread-safe; holds no file open between calls."""

    kind: Kind
    path: str

    def entries(self) -> Mapping[str, Listed]:
        """All values by path; tensors are not read."""
        ...

    def read(self, paths: Sequence[str]) -> list[Any]:
        """The values at some paths of `entries`, on the host.

        Raises:
            CorruptionError: bytes differ from what was saved.
            UnsafeObjectError: an object needs a full unpickler, which the caller has not allowed.
        """
        ...

    def tree(self, key: str | None = None) -> Any:
        """Everything, nested as it was, or what is below one key; tensors stay in the file where that is possible.

        Raises:
            StateMismatchError: there is no such key.
        """
        ...

    def notes(self) -> list[str]:
        """What `tree` leaves out, a sentence each."""
        ...


def open_source(path: str | os.PathLike[str], *, allow_pickle: bool = False, rank: int = 0) -> Source:
    """Opens what lies at `path`, whatever kind of checkpoint it is.

    Args:
        path: a snapshot, which may lie in an object store, a safetensors file, a file of `torch.save`, or a folder of
            `torch.distributed.checkpoint`.
        allow_pickle: let objects be unpickled that `weights_only` would refuse; that may run any code in them.
        rank: whose values, in a snapshot of several ranks.

    Raises:
        OSError: there is nothing, or it cannot be read.
        UnsupportedError: it is no checkpoint.

    Example:
        >>> import sucrose, torch
        >>> from sucrose.interchange.sources import open_source
        >>> sucrose.save({"weight": torch.ones(3)}, "/tmp/weights.pt")
        >>> source = open_source("/tmp/weights.pt")
        >>> source.kind.value, list(source.entries()), source.read(["weight"])
        ('torch', ['weight'], [tensor([1., 1., 1.])])
    """
    kind = recognize(path)
    name = location_of(path)
    if kind is Kind.SNAPSHOT:
        from sucrose.interchange.snapshot_source import SnapshotSource

        return SnapshotSource(name, allow_pickle=allow_pickle, rank=rank)
    if kind is Kind.SAFETENSORS:
        from sucrose.interchange.safetensors_source import SafetensorsSource

        return SafetensorsSource(name)
    if kind is Kind.TORCH:
        from sucrose.interchange.torch_source import TorchSource

        return TorchSource(name, allow_pickle=allow_pickle)
    from sucrose.interchange.dcp_source import DcpSource

    return DcpSource(name, allow_pickle=allow_pickle)

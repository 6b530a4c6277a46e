"""Reading a file of `torch.save`, of any release of torch.

1. Every record is compared with its checksum, in bounded memory.
2. The pickle is loaded by torch's rules of `weights_only`, around storages that are mapped from the file.

Files of torch before 1.6, and those of the other byte order, have to be read into memory.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from sucrose.interchange.kinds import Kind
from sucrose.interchange.trees import below, leaves_of, listed_value
from sucrose.interchange.zip_checksums import check_zip, is_zip, raise_first
from sucrose.snapshot.single_file import load, load_by_torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sucrose.interchange.listing import Listed


class TorchSource:
    """An object in a file. To know what is in it, it has to be unpickled."""

    kind = Kind.TORCH

    def __init__(self, path: str, *, allow_pickle: bool) -> None:
        self.path = path
        self._weights_only = not allow_pickle

    @cached_property
    def _object(self) -> Any:
        if not is_zip(self.path):
            return load(self.path, "cpu", weights_only=self._weights_only)
        raise_first(check_zip(self.path), self.path)
        try:
            return load_by_torch(self.path, map_location="cpu", weights_only=self._weights_only, mmap=True)
        except RuntimeError:  # of what cannot be mapped, torch says so in this way
            return load(self.path, "cpu", weights_only=self._weights_only)

    @cached_property
    def _leaves(self) -> dict[str, Any]:
        return leaves_of(self._object)

    def entries(self) -> Mapping[str, Listed]:
        return {path: listed_value(path, value) for path, value in self._leaves.items()}

    def read(self, paths: Sequence[str]) -> list[Any]:
        return [self._leaves[path] for path in paths]

    def tree(self, key: str | None = None) -> Any:
        return below(self._object, key, self.path)

    def notes(self) -> list[str]:
        return []

"""Reading a safetensors file, ours or anybody's."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from sucrose.errors import CorruptionError
from sucrose.interchange.flat_names import NESTED, nested
from sucrose.interchange.kinds import Kind
from sucrose.interchange.listing import Listed
from sucrose.interchange.mapping import MappedFile
from sucrose.interchange.safetensors_listing import SEPARATOR, TIED, list_safetensors
from sucrose.interchange.trees import below

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class SafetensorsSource:
    """Its tensors by name. The format has no checksums: only the header can be checked."""

    kind = Kind.SAFETENSORS

    def __init__(self, path: str) -> None:
        self.path = path

    @cached_property
    def _listing(self) -> tuple[dict[str, Listed], dict[str, str]]:
        return list_safetensors(self.path)

    @cached_property
    def _file(self) -> MappedFile:
        return MappedFile(self.path)

    def entries(self) -> Mapping[str, Listed]:
        return self._listing[0]

    def read(self, paths: Sequence[str]) -> list[Any]:
        entries = self.entries()
        return [self._tensor(entries[path]) for path in paths]

    def tree(self, key: str | None = None) -> Any:
        entries, metadata = self._listing
        tensors: dict[str, Any] = {name: self._tensor(entry) for name, entry in entries.items()}
        for name, first in self._ties(metadata).items():
            if name in tensors and first in tensors and _same_bytes(tensors[name], tensors[first]):
                tensors[name] = tensors[first]
        if metadata.get(SEPARATOR) == NESTED:
            tensors = nested(tensors)
        return below(tensors, key, self.path)

    def notes(self) -> list[str]:
        return []

    def _ties(self, metadata: Mapping[str, str]) -> dict[str, str]:
        try:
            ties = json.loads(metadata.get(TIED, "{}"))
        except (ValueError, RecursionError) as error:
            raise CorruptionError(f"{self.path}: {TIED!r} in its header is broken: {error}", path=self.path) from error
        return {name: first for name, first in ties.items() if isinstance(first, str)} if isinstance(ties, dict) else {}

    def _tensor(self, entry: Listed) -> torch.Tensor:
        assert entry.dtype is not None
        assert entry.shape is not None
        assert isinstance(entry.place, tuple)
        return self._file.tensor(entry.dtype, entry.shape, *entry.place)


def _same_bytes(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Another program may have changed one of them since they were tied."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.numel() > 0
        and torch.equal(a.view(-1).view(torch.uint8), b.view(-1).view(torch.uint8))
    )

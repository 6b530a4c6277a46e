"""Tensors whose memory is a file: nothing is read before it is looked at, and the kernel may drop it again.

The mapping is private: whoever writes into such a tensor gets pages of its own, and the file stays as it is. The file
has to stay as long as it is while tensors of it are in use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from sucrose.errors import CorruptionError
from sucrose.snapshot.tensors import DTYPES, ITEMSIZES

if TYPE_CHECKING:
    from collections.abc import Sequence


class MappedFile:
    """One file, as memory. Tensors of the same bytes share a storage, so that they count as tied.

    Example:
        >>> import torch
        >>> from sucrose.interchange.mapping import MappedFile
        >>> with open("/tmp/numbers.raw", "wb") as file:
        ...     _ = file.write(bytes([1, 0, 2, 0]))
        >>> MappedFile("/tmp/numbers.raw").tensor("torch.int16", (2,), 0, 4)
        tensor([1, 2], dtype=torch.int16)
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._nbytes = os.path.getsize(path)
        self._whole: Any = None
        self._slices: dict[tuple[int, int], Any] = {}

    def tensor(self, dtype: str, shape: Sequence[int], begin: int, end: int) -> torch.Tensor:
        """The tensor in the bytes [begin, end), in row-major order.

        Raises:
            CorruptionError: the file has not that many, or they are not those of such a tensor.
        """
        known = DTYPES.get(dtype)
        if known is None:
            raise CorruptionError(f"{self._path}: this version of torch has no dtype {dtype!r}", path=self._path)
        if begin == end:
            return torch.empty(tuple(shape), dtype=known)
        if not 0 <= begin < end <= self._nbytes:
            raise CorruptionError(
                f"{self._path} has {self._nbytes} bytes, too few for a tensor at offset {begin} of {end - begin} bytes",
                path=self._path,
                offset=begin,
            )
        storage = self._slices.get((begin, end))
        if storage is None:
            storage = self._slices[begin, end] = self._slice(begin, end, ITEMSIZES[known])
        try:
            return torch.empty(0, dtype=known).set_(storage).view(tuple(shape))
        except RuntimeError as error:
            raise CorruptionError(
                f"{self._path}: the {end - begin} bytes at offset {begin} are no {dtype} {list(shape)}: {error}",
                path=self._path,
                offset=begin,
            ) from error

    def _slice(self, begin: int, end: int, itemsize: int) -> Any:
        if self._whole is None:
            self._whole = torch.UntypedStorage.from_file(self._path, False, self._nbytes)
        part = self._whole[begin:end]
        # Elements in odd places are legal in a file, and not for every processor in memory.
        return part if begin % itemsize == 0 else part.clone()

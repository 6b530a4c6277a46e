"""Pickles as `torch.save` writes them: objects, with every storage taken out and named by a key.

Thread-safety: a pickler belongs to one thread.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from types import FunctionType
from typing import Any

import torch

from sucrose.errors import UnsupportedError

STORAGE_CLASSES: dict[torch.dtype, type] = {
    torch.float64: torch.DoubleStorage,
    torch.float32: torch.FloatStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.int64: torch.LongStorage,
    torch.int32: torch.IntStorage,
    torch.int16: torch.ShortStorage,
    torch.int8: torch.CharStorage,
    torch.uint8: torch.ByteStorage,
    torch.bool: torch.BoolStorage,
    torch.complex128: torch.ComplexDoubleStorage,
    torch.complex64: torch.ComplexFloatStorage,
    torch.qint8: torch.QInt8Storage,
    torch.qint32: torch.QInt32Storage,
    torch.quint8: torch.QUInt8Storage,
    torch.quint4x2: torch.QUInt4x2Storage,
    torch.quint2x4: torch.QUInt2x4Storage,
}
"""The storage classes that stand for dtypes in the format. Later dtypes have none: their tensors
are rebuilt from untyped storages."""

# Asked for every object of a pickle, some twenty times per tensor.
_NEVER_STORAGES = frozenset({int, str, tuple, bool, float, dict, list, OrderedDict, torch.Tensor, FunctionType})


class StoragePickler(pickle.Pickler):
    """Pickles an object; `storages[i]` is the storage with key ``str(i)``."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.storages: list[torch.UntypedStorage] = []
        # torch keeps one Python object per storage, and `storages` keeps it alive.
        self._keys: dict[int, tuple[str, torch.dtype]] = {}

    def persistent_id(self, obj: Any) -> tuple[object, ...] | None:
        """Replaces storages by their keys."""
        kind = type(obj)
        if kind in _NEVER_STORAGES:
            return None
        if kind is _StorageOfTensor:
            return self._identify(obj.storage, obj.dtype)
        if not isinstance(obj, (torch.TypedStorage, torch.UntypedStorage)):
            return None
        if isinstance(obj, torch.UntypedStorage):
            storage, dtype = obj, torch.uint8
        else:
            storage, dtype = obj._untyped_storage, obj.dtype  # noqa: SLF001 - untyped() warns
        _, known = self._keys.get(id(storage), ("", dtype))
        if known != dtype:
            raise UnsupportedError(
                f"a storage is saved both as {known} and as {dtype}. The format has one dtype per "
                f"storage: save the tensors that view it instead, or a clone."
            )
        return self._identify(storage, None if kind is torch.UntypedStorage else dtype)

    def reducer_override(self, obj: Any) -> Any:
        """Takes plain tensors apart as torch does, in a tenth of the time."""
        if type(obj) is OrderedDict and not obj and not obj.__dict__:
            return OrderedDict, ()  # one stands beside every tensor, for hooks
        if type(obj) is not torch.Tensor or not _is_plain(obj):
            return NotImplemented
        storage = obj.untyped_storage()
        dtype = obj.dtype
        layout = (obj.storage_offset(), tuple(obj.size()), obj.stride(), obj.requires_grad)
        hooks: OrderedDict[str, object] = OrderedDict()
        _, known = self._keys.get(id(storage), ("", dtype))
        if known == dtype and dtype in STORAGE_CLASSES:
            arguments = (_StorageOfTensor(storage, dtype), *layout, hooks)
            return torch._utils._rebuild_tensor_v2, arguments  # noqa: SLF001 - names of the format
        # This form carries the tensor's dtype, so it does not matter what the storage's is.
        return torch._utils._rebuild_tensor_v3, (_StorageOfTensor(storage, None), *layout, hooks, dtype)  # noqa: SLF001 - names of the format

    def _identify(self, storage: torch.UntypedStorage, dtype: torch.dtype | None) -> tuple[object, ...]:
        known = self._keys.get(id(storage))
        if known is None:
            if storage.device.type == "meta":
                raise UnsupportedError("a storage on the meta device has no bytes to save")
            known = (str(len(self.storages)), torch.uint8 if dtype is None else dtype)
            self._keys[id(storage)] = known
            self.storages.append(storage)
        location = torch.serialization.location_tag(storage)
        nbytes = storage.nbytes()
        if dtype is None:
            return ("storage", torch.UntypedStorage, known[0], location, nbytes)
        numel = nbytes // dtype.itemsize
        return ("storage", STORAGE_CLASSES[dtype], known[0], location, numel)


class _StorageOfTensor:
    """A storage on its way from `reducer_override` to `persistent_id`; dtype None: untyped."""

    __slots__ = ("dtype", "storage")

    def __init__(self, storage: torch.UntypedStorage, dtype: torch.dtype | None) -> None:
        self.storage = storage
        self.dtype = dtype


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether storage, sizes, strides and requires_grad are all there is to the tensor."""
    return (
        tensor.layout is torch.strided
        and not tensor.is_meta
        and (tensor.is_cpu or tensor.is_cuda)
        and not tensor.is_quantized
        and not tensor.is_nested
        and not tensor.is_neg()
        and not tensor.is_conj()
        and not tensor._backward_hooks  # noqa: SLF001 - torch warns about these
        and not tensor.__dict__
    )

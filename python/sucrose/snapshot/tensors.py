"""Where torch meets pointers: the only module that takes a tensor's address.

A tensor that the engine can use as it is has a device, an address, a size and perhaps strides.
Everything else goes through a copy, made by torch: tensors of devices that the engine does not reach
are copied to the host, conjugate and negative views, whose bytes in memory are not their values,
where they are.
"""

from __future__ import annotations

import ctypes
import errno
import math
import re
from collections.abc import Iterable, Sequence
from enum import Enum, auto

import msgspec
import torch

from sucrose.engine import Engine, Extents, Strides
from sucrose.errors import CorruptionError, StorageError, UnsupportedError

DTYPE_NAMES: dict[torch.dtype, str] = {
    dtype: str(dtype) for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)
}
"""Names as manifests have them, e.g. ``"torch.float32"``."""
DTYPES: dict[str, torch.dtype] = {name: dtype for dtype, name in DTYPE_NAMES.items()}

ITEMSIZES: dict[torch.dtype, int] = {dtype: dtype.itemsize for dtype in DTYPE_NAMES}

_QUANTIZED = frozenset(dtype for dtype, name in DTYPE_NAMES.items() if name.startswith(("torch.qint", "torch.quint")))
_SIMPLE = frozenset(dtype for dtype in DTYPE_NAMES if dtype not in _QUANTIZED and not dtype.is_complex)
_SUB_BYTE = frozenset(dtype for dtype, name in DTYPE_NAMES.items() if re.fullmatch(r"torch\.u?int[1-7]", name))
_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})
_HOST = -1  # where extents have the ordinal of a CUDA device


class Kind(Enum):
    """How a tensor is stored."""

    DENSE = auto()
    """By its bytes."""
    PICKLED = auto()
    """By torch.save, as a tensor entry: a quantized tensor's scales have no place elsewhere."""
    OBJECT = auto()
    """By torch.save: sparse layouts, and subclasses that keep their data elsewhere."""


def kind_of(tensor: torch.Tensor, key: str) -> Kind:
    """How to store the tensor at the logical path `key`.

    Raises:
        UnsupportedError: it has no data (meta device, uninitialized, a collective's result).
    """
    if type(tensor) not in _PLAIN:
        if torch.nn.parameter.is_lazy(tensor):
            raise UnsupportedError(f"{key!r} is not initialized yet: run the module once before saving it", key=key)
        if type(tensor).__module__.startswith("torch.distributed"):
            raise UnsupportedError(
                f"{key!r} is a {type(tensor).__name__}, which belongs to a collective that is under way: wait for it "
                "before saving it",
                key=key,
            )
        if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
            return Kind.OBJECT
    if not tensor.is_cpu and tensor.is_meta:
        raise UnsupportedError(
            f"{key!r} is on the meta device and has no data: materialize it "
            "(for modules: module.to_empty(device=...)) before saving it",
            key=key,
        )
    if tensor.layout is not torch.strided or tensor.is_nested:
        return Kind.OBJECT
    if tensor.dtype in _QUANTIZED:
        return Kind.PICKLED
    return Kind.DENSE


def is_picklable(dtype: torch.dtype) -> bool:
    """Whether torch.save has a name for it."""
    return dtype not in _SUB_BYTE


def without_spare_storage(quantized: torch.Tensor) -> torch.Tensor:
    """The tensor in a storage of its own, as torch.save writes storages whole."""
    detached = quantized.detach()
    try:
        return detached.clone()
    except RuntimeError:  # torch cannot copy every scheme of quantization
        return detached


class Memory(msgspec.Struct, gc=False):
    """A dense tensor's elements, as the engine takes them."""

    address: int
    nbytes: int
    strides: tuple[int, ...] | None
    """In bytes; None where the elements lie in row-major order without gaps."""
    tensor: torch.Tensor
    """Owner of the memory; shape and item size go with `strides`."""
    dtype: torch.dtype
    device: int = -1
    """Ordinal of a CUDA device, -1 for the host."""


def plain_memory(tensor: torch.Tensor) -> Memory | None:
    """The memory of an ordinary CPU tensor with elements in row-major order, else None.

    Nearly all tensors are of this kind, and this is the one place where each costs several calls
    into torch: models have tens of thousands.
    """
    if (
        type(tensor) in _PLAIN
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and (dtype := tensor.dtype) in _SIMPLE
        and not tensor.is_nested
        and tensor.is_contiguous()
        and not tensor.is_neg()
    ):
        return Memory(tensor.data_ptr(), tensor.nbytes, None, tensor, dtype)
    return None


def source_memory(tensor: torch.Tensor, engine: Engine) -> Memory:
    """The memory to save a dense tensor from."""
    device = _device_within_reach(tensor, engine)
    if device is None:
        tensor = tensor.detach().cpu()
        device = _HOST
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.detach().resolve_conj().resolve_neg()
    return _memory(tensor, device)


def destination_memory(tensor: torch.Tensor, engine: Engine) -> Memory | None:
    """The memory to restore a dense tensor into, or None where that takes `Tensor.copy_`."""
    device = _device_within_reach(tensor, engine)
    if device is None or tensor.is_conj() or tensor.is_neg():
        return None
    memory = _memory(tensor, device)
    if memory.strides is not None and _elements_overlap(tensor):
        return None
    return memory


def extents_of(memories: Sequence[Memory], *, header: bytes = b"") -> Extents:
    """`header`, if any, then the memories, all kept alive by the extents."""
    extents = Extents()
    if header:
        extents.append_bytes(header)
    first = len(extents.addresses)
    extents.addresses.extend([memory.address for memory in memories])
    extents.nbytes.extend([memory.nbytes for memory in memories])
    # Nearly all tensors are neither, and this is all that the two cost them.
    special = [i for i, memory in enumerate(memories) if memory.strides is not None or memory.device != _HOST]
    on_devices = False
    for index in special:
        memory = memories[index]
        on_devices |= memory.device != _HOST
        if memory.strides is not None:
            extents.strided.append(strides_of(memory, first + index))
    if on_devices:
        extents.devices.extend([*[_HOST] * first, *[memory.device for memory in memories]])
        extents.streams.update(streams_of(extents.devices))
    extents.keep_alive.append(memories)
    return extents


def strides_of(memory: Memory, extent: int) -> Strides:
    """The layout of memory that is not contiguous, which is the extent of that number."""
    assert memory.strides is not None
    return Strides(
        extent=extent,
        shape=tuple(memory.tensor.shape),
        strides=memory.strides,
        itemsize=memory.tensor.element_size(),
    )


def streams_of(devices: Iterable[int]) -> dict[int, int]:
    """The program's current stream on each of the devices that extents name."""
    return {device: torch.cuda.current_stream(device).cuda_stream for device in set(devices) - {_HOST}}


def _device_within_reach(tensor: torch.Tensor, engine: Engine) -> int | None:
    """The tensor's device as extents name it; None where the engine cannot get at it."""
    if tensor.is_cpu:
        return _HOST
    if not tensor.is_cuda:
        return None
    ordinal = tensor.device.index
    return ordinal if engine.reaches_device(ordinal) else None


def _memory(tensor: torch.Tensor, device: int) -> Memory:
    strides = None
    if not tensor.is_contiguous():
        itemsize = tensor.element_size()
        strides = tuple(stride * itemsize for stride in tensor.stride())
    return Memory(tensor.data_ptr(), tensor.nbytes, strides, tensor, tensor.dtype, device)


def _elements_overlap(tensor: torch.Tensor) -> bool:
    """Whether two elements may share memory, as after `expand`."""
    reach = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride < reach:
                return True
            reach = stride * (size - 1) + reach
    return False


def is_restorable_in_place(tensor: torch.Tensor) -> bool:
    """Whether `Tensor.copy_` could fill it; others are replaced by load_state_dict."""
    if type(tensor) not in _PLAIN and torch.nn.parameter.is_lazy(tensor):
        return False
    return tensor.layout is torch.strided and not tensor.is_nested and why_unfillable(tensor) is None


def why_unfillable(tensor: torch.Tensor) -> str | None:
    """What keeps everybody, load_state_dict too, from filling a strided tensor; None for most."""
    if tensor.is_meta:
        return "is on the meta device and has no memory: materialize it first, with module.to_empty(device=...)"
    if type(tensor) in _PLAIN and tensor.numel() > 0 and tensor.data_ptr() == 0:
        return "has no memory any more, as after resize_(0) of its storage: give it some first"
    if not tensor.is_contiguous() and _elements_overlap(tensor):
        return "has elements that share memory, as after expand(): clone it first"
    return None


def empty_like_entry(dtype: torch.dtype, shape: list[int], key: str) -> torch.Tensor:
    """A new CPU tensor that nothing has touched yet.

    Raises:
        CorruptionError: there is no such dense tensor.
        StorageError: there is no memory for it (ENOMEM).
    """
    if dtype in _QUANTIZED:
        raise CorruptionError(f"{key!r} is stored as the bytes of a {dtype} tensor, whose scales are missing", key=key)
    try:
        return torch.empty(shape, dtype=dtype)
    except (RuntimeError, MemoryError) as error:
        nbytes = dense_nbytes(dtype, shape)
        raise StorageError(
            errno.ENOMEM, f"no memory for {key!r}, a {dtype} tensor of {nbytes} bytes", None, key=key
        ) from error


def dense_nbytes(dtype: torch.dtype, shape: list[int]) -> int:
    """Bytes of a dense tensor."""
    return math.prod(shape) * ITEMSIZES[dtype]


def storage_address(storage: torch.UntypedStorage) -> int:
    """Address of a storage's first byte."""
    return storage.data_ptr()


def buffer_address(buffer: bytearray) -> int:
    """Address of a buffer's first byte, for as long as nobody resizes it."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0


def rows_of_memory(memory: Memory, dim: int, begin: int, end: int) -> Memory:
    """Rows [begin, end) of the dimension `dim`, before which all have the size 1; `memory` keeps its owner."""
    view = memory.tensor.detach().narrow(dim, begin, end - begin)
    per_row = memory.nbytes // memory.tensor.shape[dim]
    step = per_row if memory.strides is None else memory.strides[dim]
    return Memory(
        memory.address + begin * step, (end - begin) * per_row, memory.strides, view, memory.dtype, memory.device
    )

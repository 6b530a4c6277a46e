"""An interpreter for the pickles that plain state dicts make: tensors in dicts, lists and tuples.

It knows the protocol-2 operations below and the few globals in `_GLOBALS`, and raises
`BeyondPlainError` for everything else, which its caller hands to torch's restricted unpickler.
That one is right for every pickle but takes some 100 µs per tensor; this one takes a tenth.
Nothing here imports, looks up attributes by name, or calls what is not in `_GLOBALS`.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from sucrose.errors import CorruptionError
from sucrose.snapshot.torch_pickle import STORAGE_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable


class BeyondPlainError(Exception):
    """The pickle has something that only a full unpickler knows."""


class _Function:
    """Something that a pickle may call."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class StorageKind:
    """What a pickle calls a storage class."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def _tensor(
    storage: torch.TypedStorage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    hooks: object,
) -> torch.Tensor:
    if type(storage) is not torch.TypedStorage or hooks:
        raise BeyondPlainError
    untyped = storage._untyped_storage  # noqa: SLF001 - untyped() warns
    _check_reach(untyped.nbytes(), offset, size, stride, storage.dtype.itemsize)
    tensor = torch.empty(0, dtype=storage.dtype, device=untyped.device)
    tensor.set_(untyped, offset, size, stride)
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def _check_reach(
    storage_nbytes: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...], itemsize: int
) -> None:
    """Torch would make the storage larger, by whatever the pickle says."""
    last = offset
    for length, step in zip(size, stride, strict=True):
        last += (length - 1) * step
        if length <= 0:
            if length == 0:
                return
            raise BeyondPlainError
    if (last + 1) * itemsize > storage_nbytes:
        raise CorruptionError(f"has {storage_nbytes} bytes, but a tensor in it needs {(last + 1) * itemsize}")


def _ordered_dict() -> OrderedDict[Any, Any]:
    return OrderedDict()  # with arguments it would hash whatever they hold


def _parameter(data: torch.Tensor, requires_grad: bool, hooks: object) -> torch.nn.Parameter:
    if type(data) is not torch.Tensor or hooks:
        raise BeyondPlainError
    return torch.nn.Parameter(data, requires_grad)


_GLOBALS: dict[bytes, object] = {
    b"torch._utils\n_rebuild_tensor_v2\n": _Function(_tensor),
    b"torch._utils\n_rebuild_parameter\n": _Function(_parameter),
    b"collections\nOrderedDict\n": _Function(_ordered_dict),
    b"torch\nSize\n": _Function(torch.Size),
}
_GLOBALS.update((f"torch\n{kind.__name__}\n".encode(), StorageKind(dtype)) for dtype, kind in STORAGE_CLASSES.items())

_PUT, _LONG_PUT = pickle.BINPUT[0], pickle.LONG_BINPUT[0]
_GET, _LONG_GET = pickle.BINGET[0], pickle.LONG_BINGET[0]
_INT1, _INT2, _INT4 = pickle.BININT1[0], pickle.BININT2[0], pickle.BININT[0]
_TUPLE, _TUPLE1, _TUPLE2, _TUPLE3 = pickle.TUPLE[0], pickle.TUPLE1[0], pickle.TUPLE2[0], pickle.TUPLE3[0]
_TEXT, _MARK, _REDUCE, _STORAGE = pickle.BINUNICODE[0], pickle.MARK[0], pickle.REDUCE[0], pickle.BINPERSID[0]
_PROTO, _STOP = pickle.PROTO[0], pickle.STOP[0]
_LITERALS = {pickle.NONE[0]: None, pickle.NEWTRUE[0]: True, pickle.NEWFALSE[0]: False, pickle.EMPTY_TUPLE[0]: ()}
_KEYS = frozenset({str, int, float, bool, type(None)})  # hashing others may take for ever
_BROKEN = (
    LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError, struct.error,
    pickle.UnpicklingError,
)  # fmt: skip
_UINT32 = struct.Struct("<I").unpack_from
_INT32 = struct.Struct("<i").unpack_from


def load_plain(data: bytes, load_storage: Callable[[Any], torch.TypedStorage]) -> Any:
    """The object in `data`; `load_storage` answers for the persistent ids of storages.

    Raises:
        BeyondPlainError: the pickle needs, or is broken in a way that wants, a full unpickler.
        CorruptionError: a tensor reaches beyond its storage; the message lacks the beginning.
    """
    machine = _Machine(data, load_storage)
    try:
        return machine.run()
    except _BROKEN as error:
        raise BeyondPlainError from error


class _Machine:
    """The pickle virtual machine: a stack, the stacks below its marks, and a memo."""

    def __init__(self, data: bytes, load_storage: Callable[[Any], torch.TypedStorage]) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.load_storage = load_storage

    def run(self) -> Any:  # noqa: PLR0912, PLR0915 - a call per operation would double the time
        """Interprets up to STOP. The operations of a tensor stand here, in order of frequency."""
        data, memo, stack, at = self.data, self.memo, self.stack, 0
        while True:
            code = data[at]
            at += 1
            if code == _LONG_PUT:
                memo[_UINT32(data, at)[0]] = stack[-1]
                at += 4
            elif code == _GET:
                stack.append(memo[data[at]])
                at += 1
            elif code == _INT1:
                stack.append(data[at])
                at += 1
            elif code == _TEXT:
                end = at + 4 + _UINT32(data, at)[0]
                stack.append(str(data[at + 4 : end], "utf-8", "surrogatepass"))
                at = end
            elif code == _TUPLE2:
                stack[-2:] = [(stack[-2], stack[-1])]
            elif code == _TUPLE:
                items = stack
                stack = self.below.pop()
                stack.append(tuple(items))
            elif code == _MARK:
                self.below.append(stack)
                stack = []
            elif code == _REDUCE:
                arguments = stack.pop()
                if type(stack[-1]) is not _Function:
                    raise BeyondPlainError
                stack[-1] = stack[-1].call(*arguments)
            elif code in _LITERALS:
                stack.append(_LITERALS[code])
            elif code == _STORAGE:
                stack[-1] = self.load_storage(stack[-1])
            elif code == _INT2:
                stack.append(data[at] | data[at + 1] << 8)
                at += 2
            elif code == _INT4:
                stack.append(_INT32(data, at)[0])
                at += 4
            elif code == _PUT:
                memo[data[at]] = stack[-1]
                at += 1
            elif code == _LONG_GET:
                stack.append(memo[_UINT32(data, at)[0]])
                at += 4
            elif code == _TUPLE1:
                stack[-1] = (stack[-1],)
            elif code == _TUPLE3:
                stack[-3:] = [(stack[-3], stack[-2], stack[-1])]
            elif code == _STOP:
                if len(stack) != 1 or self.below:
                    raise BeyondPlainError
                return stack[0]
            else:
                self.stack, self.at = stack, at
                _RARE[code](self)
                stack, at = self.stack, self.at

    def proto(self) -> None:
        """Newer protocols have operations that are not here."""
        if self.data[self.at] != 2:
            raise BeyondPlainError
        self.at += 1

    def find_global(self) -> None:
        """Pushes what a module and a name stand for."""
        end = self.data.index(b"\n", self.data.index(b"\n", self.at) + 1) + 1
        self.stack.append(_GLOBALS[self.data[self.at : end]])
        self.at = end

    def push_float(self) -> None:
        """Pushes a float."""
        self.stack.append(struct.unpack_from(">d", self.data, self.at)[0])
        self.at += 8

    def push_long(self) -> None:
        """Pushes an int of up to 255 bytes."""
        nbytes = self.data[self.at]
        end = self.at + 1 + nbytes
        self.stack.append(int.from_bytes(self.data[self.at + 1 : end], "little", signed=True))
        self.at = end

    def push_dict(self) -> None:
        """Pushes an empty dict."""
        self.stack.append({})

    def push_list(self) -> None:
        """Pushes an empty list."""
        self.stack.append([])

    def set_item(self) -> None:
        """One key and value into the dict below them."""
        value = self.stack.pop()
        key = self.stack.pop()
        if type(key) not in _KEYS:
            raise BeyondPlainError
        self._mapping()[key] = value

    def set_items(self) -> None:
        """Keys and values since the mark into the dict below it."""
        items = self.stack
        self.stack = self.below.pop()
        if not _KEYS.issuperset(map(type, items[::2])):
            raise BeyondPlainError
        self._mapping().update(zip(items[::2], items[1::2], strict=True))

    def append(self) -> None:
        """One item to the list below it."""
        item = self.stack.pop()
        self._list().append(item)

    def appends(self) -> None:
        """Items since the mark to the list below it."""
        items = self.stack
        self.stack = self.below.pop()
        self._list().extend(items)

    def build(self) -> None:
        """The attributes of an OrderedDict, such as the `_metadata` of a module's state dict."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is not OrderedDict or type(state) is not dict:
            raise BeyondPlainError
        target.__dict__.update(state)

    def _mapping(self) -> dict[Any, Any]:
        target = self.stack[-1]
        if type(target) is dict or type(target) is OrderedDict:
            return target
        raise BeyondPlainError

    def _list(self) -> list[Any]:
        target = self.stack[-1]
        if type(target) is list:
            return target
        raise BeyondPlainError


_RARE: dict[int, Callable[[_Machine], None]] = {
    _PROTO: _Machine.proto,
    pickle.GLOBAL[0]: _Machine.find_global,
    pickle.BINFLOAT[0]: _Machine.push_float,
    pickle.LONG1[0]: _Machine.push_long,
    pickle.EMPTY_DICT[0]: _Machine.push_dict,
    pickle.EMPTY_LIST[0]: _Machine.push_list,
    pickle.SETITEM[0]: _Machine.set_item,
    pickle.SETITEMS[0]: _Machine.set_items,
    pickle.APPEND[0]: _Machine.append,
    pickle.APPENDS[0]: _Machine.appends,
    pickle.BUILD[0]: _Machine.build,
}

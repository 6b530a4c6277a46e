"""`.metadata` of `torch.distributed.checkpoint`: a pickle, of which only torch's own records are let in.

torch reads it with an unpickler that runs whatever the file says. This one knows the dataclasses of the format, the
values of their fields, and nothing else. One operation of pickles sets attributes of anything that has a name, classes
included: in the place of those stand copies that nobody else sees and that take none, so that the pickle has no say in
what looking at its records does.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint import metadata as records

from sucrose.errors import CorruptionError, UnsafeObjectError
from sucrose.formats.limits import MAX_DCP_METADATA_NBYTES
from sucrose.formats.pickle_limits import check_pickle
from sucrose.snapshot.tensors import DTYPES
from sucrose.storage import LocalDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping

_RECORDS = (
    "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties",
    "TensorStorageMetadata",
)  # fmt: skip
_PATHS = ("PosixPath", "PurePosixPath", "Path")

_IMMUTABLE: Mapping[tuple[str, str], Any] = {
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    **{("torch", name.removeprefix("torch.")): dtype for name, dtype in DTYPES.items()},
}
"""What is written in C, and what no attribute can be set of."""


class _Fixed(type):
    """Classes that stay as they are."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"a pickle may not set {name!r} of a class")


class _Index:
    """What is different in the copy of `MetadataIndex`: keys hold text and numbers, not keys that hold keys."""

    fqn: Any
    offset: Any

    def __hash__(self) -> int:
        if type(self.fqn) is not str or not isinstance(self.offset, (torch.Size, type(None))):
            raise TypeError("an index has a name and an offset")
        return hash((self.fqn, self.offset))


class _Properties:
    """What is different in the copy of `TensorProperties`, whose own message would have all that a state holds."""

    def __setstate__(self, state: Any) -> None:
        dtype, _, _, memory_format, _ = state
        if not isinstance(dtype, torch.dtype) or not isinstance(memory_format, records._MEM_FORMAT_ENCODING):  # noqa: SLF001 - of the format
            raise TypeError("properties have a dtype and a memory format")
        super().__setstate__(state)  # type: ignore[misc]  # that of TensorProperties


_DIFFERENT = {"MetadataIndex": (_Index,), "TensorProperties": (_Properties,)}


def _known() -> dict[tuple[str, str], Any]:
    """What may be named, and what it stands for in one pickle."""

    class Path(PurePosixPath, metaclass=_Fixed):
        __slots__ = ()

    def get_layout(name: str) -> Any:
        """As torch.serialization's function of that name, which newer releases may drop."""
        layout = getattr(torch, name.removeprefix("torch."), None)
        if not isinstance(layout, torch.layout):
            raise pickle.UnpicklingError(f"{name!r} is no layout")
        return layout

    def memory_format(number: int) -> Any:
        if type(number) is not int:  # an enum shows what it does not know, as a whole
            raise pickle.UnpicklingError("a memory format is a number")
        return records._MEM_FORMAT_ENCODING(number)  # noqa: SLF001 - of the format

    found = {
        name: _Fixed(name, (*_DIFFERENT.get(name, ()), getattr(records, name)), {})
        for name in _RECORDS
        if hasattr(records, name)
    }
    storage_info = _Fixed("_StorageInfo", (filesystem._StorageInfo,), {})  # noqa: SLF001 - of the format
    return {
        **_IMMUTABLE,
        **{(records.__name__, name): kind for name, kind in found.items()},
        **{(module, kind): Path for module in ("pathlib", "pathlib._local") for kind in _PATHS},
        (records.__name__, "_MEM_FORMAT_ENCODING"): memory_format,
        ("torch.serialization", "_get_layout"): get_layout,
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): storage_info,
    }


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._known = _known()

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return self._known[module, name]
        except KeyError:
            raise _UnknownClassError(f"{module}.{name}") from None


class _UnknownClassError(pickle.UnpicklingError):
    pass


def read_metadata(path: str, *, allow_pickle: bool = False) -> records.Metadata:
    """Reads a `.metadata` file.

    Args:
        path: the file.
        allow_pickle: whether the pickle may have anything in it, and run code.

    Raises:
        UnsafeObjectError: it wants more than torch's own records.
        CorruptionError: it is broken, or no regular file.
        OSError: it cannot be read.
    """
    folder, name = os.path.split(path)
    data = LocalDirectory(folder).read(name, MAX_DCP_METADATA_NBYTES)
    if not allow_pickle:
        check_pickle(data, path, is_full=True)
    try:
        loaded = pickle.loads(data) if allow_pickle else _Unpickler(data).load()
    except _UnknownClassError as error:
        raise UnsafeObjectError(
            f"{path} wants {error}, which is none of torch's own records, and unpickling it could run any code. If you "
            "trust whoever wrote it, pass --allow-pickle",
            path=path,
        ) from error
    except Exception as error:  # pickles that are broken raise anything
        raise CorruptionError(f"{path} is not the metadata of a checkpoint: {error!r}", path=path) from error
    if not isinstance(loaded, records.Metadata) or not isinstance(loaded.state_dict_metadata, dict):
        raise CorruptionError(f"{path} is not the metadata of a checkpoint, but a {type(loaded).__name__}", path=path)
    return loaded

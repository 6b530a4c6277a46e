"""`.metadata` of `torch.distributed.checkpoint`: a pickle, of which only torch's own records are let in.

torch reads it with an unpickler that runs whatever the file says. This one knows the dataclasses of the format, the
values of their fields, and nothing else.
"""

from __future__ import annotations

import io
import pickle
from pathlib import PurePosixPath
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint import metadata as records

from sucrose.errors import CorruptionError, UnsafeObjectError
from sucrose.formats.pickle_limits import check_pickle
from sucrose.snapshot.tensors import DTYPES

MAX_METADATA_NBYTES = 4 << 30
"""A file that is longer is no metadata: a tensor takes some hundred bytes."""

_RECORDS = (
    "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties",
    "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
)  # fmt: skip


def _get_layout(name: str) -> Any:
    """As torch.serialization's function of that name, which newer releases may drop."""
    layout = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(layout, torch.layout):
        raise pickle.UnpicklingError(f"{name!r} is no layout")
    return layout


_KNOWN: dict[tuple[str, str], Any] = {
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch.serialization", "_get_layout"): _get_layout,
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): filesystem._StorageInfo,  # noqa: SLF001 - of the format
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    **{("pathlib", kind): PurePosixPath for kind in ("PosixPath", "PurePosixPath", "Path")},
    **{("pathlib._local", kind): PurePosixPath for kind in ("PosixPath", "PurePosixPath", "Path")},
    **{(records.__name__, name): getattr(records, name) for name in _RECORDS if hasattr(records, name)},
    **{("torch", name.removeprefix("torch.")): dtype for name, dtype in DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _KNOWN[module, name]
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
        CorruptionError: it is broken.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_METADATA_NBYTES + 1)
    if len(data) > MAX_METADATA_NBYTES:
        raise CorruptionError(f"{path} has more than {MAX_METADATA_NBYTES} bytes: it is no metadata", path=path)
    if not allow_pickle:
        check_pickle(data, path, is_full=True)
    try:
        loaded = pickle.loads(data) if allow_pickle else _Unpickler(io.BytesIO(data)).load()
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

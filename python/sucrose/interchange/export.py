"""One value of a checkpoint as a file of its own: ``.npy``, ``.pt`` or ``.safetensors``."""

from __future__ import annotations

import errno
import io
import os
from typing import Any

import torch

from sucrose.engine import get_engine
from sucrose.errors import ConfigError, UnsupportedError
from sucrose.interchange.kinds import Kind
from sucrose.interchange.safetensors_sink import write_safetensors
from sucrose.interchange.target import Target
from sucrose.snapshot.single_file import save, temporary_beside, write_replacing
from sucrose.snapshot.tensors import extents_of, source_memory

SUFFIXES = (".npy", ".pt", ".safetensors")


def export(value: Any, name: str, path: str, *, overwrite: bool = False) -> None:
    """Writes one value; the suffix of `path` says how. The file is durable, and there as a whole or not at all.

    Args:
        value: a tensor, or anything for ``.pt``.
        name: what a tensor is called in a safetensors file.
        path: the file.
        overwrite: replace a file that is there.

    Raises:
        ConfigError: another suffix.
        FileExistsError: there is a file, and `overwrite` is false.
        UnsupportedError: the kind of file cannot hold the value.

    Example:
        >>> import tempfile, torch
        >>> from sucrose.interchange.export import export
        >>> path = tempfile.mkdtemp() + "/w.pt"
        >>> export(torch.ones(2), "w", path)
        >>> torch.load(path)
        tensor([1., 1.])
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"--export {path!r}: expected a name that ends in one of {', '.join(SUFFIXES)}")
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(errno.EEXIST, "a file is here already; --overwrite replaces it", path)
    if isinstance(value, torch.Tensor):
        value = value.detach()
    if suffix == ".pt":
        save(value.contiguous().clone() if isinstance(value, torch.Tensor) and _is_dense(value) else value, path)
        return
    if not isinstance(value, torch.Tensor) or not _is_dense(value):
        raise UnsupportedError(f"{name!r} is no dense tensor, which is all that {suffix} can hold: export it as .pt")
    if suffix == ".safetensors":
        write_safetensors({name: value}, Target(path=os.path.abspath(path), kind=Kind.SAFETENSORS))
    else:
        _write_npy(value, name, path)


def _is_dense(value: torch.Tensor) -> bool:
    return value.layout is torch.strided and not value.is_nested and not value.is_quantized


def _write_npy(value: torch.Tensor, name: str, path: str) -> None:
    from numpy.lib import format as npy

    try:
        array = value.resolve_conj().resolve_neg().contiguous().numpy()
    except TypeError:
        raise UnsupportedError(
            f"{name!r} has the dtype {value.dtype}, which NumPy does not have: export it as .pt or .safetensors",
            key=name,
        ) from None
    header = io.BytesIO()
    npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(array))
    engine = get_engine()
    extents = extents_of([source_memory(value, engine)], header=header.getvalue())
    target = os.path.realpath(path)
    write_replacing(engine, target, temporary_beside(target), extents, durable=True)

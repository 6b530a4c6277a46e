"""NumPy arrays and scalars in pickles: larger arrays as tensors of bytes, whose memory is not copied.

Only plain dtypes go this way. Anything else (records, objects, dtypes of other packages) is left to
NumPy's own pickling.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PLAIN_KINDS = "biufcmMSU"
_INLINE_NBYTES = 1024
"""Up to here an array's bytes stand in the pickle: a storage of its own costs more than they do."""


def reduce_array(array: NDArray[Any]) -> Any:
    """How to pickle an array; NotImplemented where NumPy knows best."""
    if not _is_plain(array.dtype):
        return NotImplemented
    order: Literal["C", "F"] = "F" if array.flags.fnc else "C"
    if array.nbytes <= _INLINE_NBYTES:
        contents: bytes | torch.Tensor = array.tobytes(order)
    else:
        contents = torch.from_numpy(_flat_bytes(array))
    return rebuild_array, (array.dtype.str, array.shape, order, contents)


def reduce_scalar(scalar: np.generic) -> Any:
    """How to pickle a scalar; NotImplemented where NumPy knows best."""
    if not _is_plain(scalar.dtype):
        return NotImplemented
    return rebuild_scalar, (scalar.dtype.str, scalar.tobytes())


def rebuild_array(dtype: str, shape: tuple[int, ...], order: str, contents: bytes | torch.Tensor) -> NDArray[Any]:
    """The array; runs no code of the pickle's, whatever the arguments.

    Raises:
        ValueError: the arguments do not fit together.
    """
    import numpy as np

    flat = np.frombuffer(bytearray(contents), np.uint8) if isinstance(contents, bytes) else contents.numpy()
    kind = _plain_dtype(dtype)
    if math.prod(shape) * kind.itemsize != flat.nbytes:
        raise ValueError(f"an array of shape {shape} and dtype {dtype} does not have {flat.nbytes} bytes")
    array: NDArray[Any] = np.ndarray(shape, kind, flat.data, order="F" if order == "F" else "C")
    return array


def rebuild_scalar(dtype: str, contents: bytes) -> Any:
    """The scalar; runs no code of the pickle's, whatever the arguments.

    Raises:
        ValueError: the arguments do not fit together.
    """
    return rebuild_array(dtype, (), "C", contents)[()]


def _is_plain(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in _PLAIN_KINDS and dtype.itemsize > 0 and dtype.isbuiltin != 2 and dtype.metadata is None


def _plain_dtype(name: str) -> np.dtype[Any]:
    import numpy as np

    dtype: np.dtype[Any] = np.dtype(str(name))
    if not _is_plain(dtype):
        raise ValueError(f"{name!r} is no plain dtype")
    return dtype


def _flat_bytes(array: NDArray[Any]) -> NDArray[Any]:
    """All bytes of an array; its own memory where that is contiguous and not read-only."""
    import numpy as np

    rows = array.T if array.flags.fnc else np.ascontiguousarray(array)
    if not rows.flags.writeable:
        rows = rows.copy()
    return rows.reshape(-1).view(np.uint8)

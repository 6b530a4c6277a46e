"""The fake CUDA driver of the native tests, and tensors in its device memory.

The tensors are host tensors over what is behind device memory, which say that they are on a CUDA
device and tell their device address: torch needs no CUDA for them, and the engine does with them what
it does with real ones. Host code that used such an address would crash.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import torch

_BUILT = Path(__file__).parents[2] / "build" / "dev" / "tests" / "native" / "libfake_cuda.so"
LIBRARY = Path(os.environ.get("SUCROSE_FAKE_CUDA_LIBRARY", _BUILT)).absolute()
"""`make native-tests` builds it."""

AVAILABLE = LIBRARY.exists() or "SUCROSE_FAKE_CUDA_LIBRARY" in os.environ
"""Where the variable names it, as in `make test`, it has to be there."""


class Stats(ctypes.Structure):
    """`struct fake_cuda_stats_t`."""

    _fields_ = [
        ("contexts_retained", ctypes.c_ulonglong),
        ("streams", ctypes.c_ulonglong),
        ("events", ctypes.c_ulonglong),
        ("modules", ctypes.c_ulonglong),
        ("allocations", ctypes.c_ulonglong),
        ("allocated_nbytes", ctypes.c_ulonglong),
        ("registrations", ctypes.c_ulonglong),
        ("registered_nbytes", ctypes.c_ulonglong),
        ("copies_h2d", ctypes.c_ulonglong),
        ("copies_d2h", ctypes.c_ulonglong),
        ("copies_d2d", ctypes.c_ulonglong),
        ("copies_2d", ctypes.c_ulonglong),
        ("copies_pageable", ctypes.c_ulonglong),
        ("kernels", ctypes.c_ulonglong),
        ("nbytes_h2d", ctypes.c_ulonglong),
        ("nbytes_d2h", ctypes.c_ulonglong),
        ("nbytes_d2d", ctypes.c_ulonglong),
    ]


class FakeCuda:
    """The driver and its controls. One at a time: making one resets the driver."""

    def __init__(self, devices: int = 1, nbytes: int = 2 << 30, *, max_delay_us: int = 100, seed: int = 1) -> None:
        self._library = ctypes.CDLL(str(LIBRARY))
        self._library.fake_cuda_shadow.restype = ctypes.c_void_p
        self._library.fake_cuda_device_address.restype = ctypes.c_ulonglong
        self._library.fake_cuda_reset(devices, ctypes.c_size_t(nbytes), max_delay_us, seed)
        self._call("cuInit", 0)
        self._contexts = []
        for ordinal in range(devices):
            context = ctypes.c_void_p()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), ordinal)
            self._contexts.append(context)

    def tensor(self, values: torch.Tensor, device: int = 0) -> DeviceTensor:
        """A copy of `values` in the memory of a device, with the same strides."""
        span = values.untyped_storage().nbytes() - values.storage_offset() * values.element_size()
        address = ctypes.c_ulonglong()
        self._call("cuCtxPushCurrent_v2", self._contexts[device])
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(span, 1)))
        self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        shadow = self._library.fake_cuda_shadow(address)
        memory = torch.frombuffer((ctypes.c_char * max(span, 1)).from_address(shadow), dtype=torch.uint8)
        behind = memory[:span].view(values.dtype).as_strided(values.shape, values.stride())
        behind.copy_(values)
        tensor = behind.as_subclass(DeviceTensor)
        tensor.fake, tensor.ordinal = self, device
        return tensor

    def device_address(self, shadow: int) -> int:
        """Where on a device the byte is that host code sees at `shadow`."""
        return int(self._library.fake_cuda_device_address(ctypes.c_void_p(shadow)))

    def fill_later(self, tensor: DeviceTensor, value: int, *, stream: int = 0, delay_us: int = 0) -> None:
        """Puts a kernel on `stream` that fills the tensor's bytes when its turn comes."""
        self._library.fake_cuda_fill_later(
            tensor.ordinal,
            ctypes.c_ulonglong(stream),
            ctypes.c_ulonglong(tensor.data_ptr()),
            value,
            ctypes.c_size_t(tensor.nbytes),
            delay_us,
        )

    def fail(self, function: str, nth: int = 1, result: int = 999, *, sticky: bool = False) -> None:
        """Makes a call of the driver fail."""
        self._library.fake_cuda_fail(function.encode(), nth, result, int(sticky))

    def clear_failures(self) -> None:
        """Lets all calls succeed again."""
        self._library.fake_cuda_clear_failures()

    def hold(self) -> None:
        """Lets no operation of any stream begin until `resume`."""
        self._library.fake_cuda_hold()

    def resume(self) -> None:
        """Ends `hold`."""
        self._library.fake_cuda_resume()

    def stats(self) -> Stats:
        """What the driver counts."""
        stats = Stats()
        self._library.fake_cuda_stats(ctypes.byref(stats))
        return stats

    def assert_used_rightly(self) -> None:
        """Raises where the program has used freed memory, or memory that a copy was pending on."""
        text = ctypes.create_string_buffer(512)
        count = self._library.fake_cuda_violations(text, ctypes.c_size_t(512))
        assert count == 0, text.value.decode()

    def _call(self, function: str, *arguments: Any) -> None:
        result = getattr(self._library, function)(*arguments)
        assert result == 0, f"{function} returned {result}"


class DeviceTensor(torch.Tensor):
    """A tensor that says it is on a CUDA device; see the head of this file."""

    fake: FakeCuda
    ordinal: int

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.ordinal)

    def data_ptr(self) -> int:
        return self.fake.device_address(super().data_ptr())

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Views stay on the device; what torch computes anew does not."""
        result = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(result, DeviceTensor):
            source = next(arg for arg in args if isinstance(arg, DeviceTensor))
            result.fake, result.ordinal = source.fake, source.ordinal
        return result


def values_of(tensor: torch.Tensor) -> torch.Tensor:
    """What is behind the tensor, as an ordinary one of its own."""
    return tensor.detach().as_subclass(torch.Tensor).clone()

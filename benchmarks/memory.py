"""Resident memory of this process, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def reset_peak() -> int:
    """Makes the peak start again at the present resident bytes, which it returns."""
    _CLEAR_REFS.write_text("5", encoding="ascii")
    return _status_nbytes("VmRSS")


def peak_nbytes() -> int:
    """The most that was resident since the last reset, mapped files included."""
    return _status_nbytes("VmHWM")


def _status_nbytes(field: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise KeyError(field)

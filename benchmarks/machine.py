"""What the figures were measured on: enough to judge them, nothing that names the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from benchmarks.gpu import first_gpu

_DISTRIBUTIONS = ("torch", "torch-sucrose", "numpy")
_TRANSPORTS = {"nvme": "nvme", "vd": "virtio", "xvd": "xen", "sd": "scsi", "md": "raid", "dm-": "mapped"}


def describe(folder: Path) -> dict[str, Any]:
    """The machine as seen from `folder`, where the files will lie."""
    file_system, options, storage = _mount_of(folder)
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    virtual = re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) is not None
    cores = os.cpu_count() or 1
    gpu = first_gpu().name
    name = f"{cores}{'vcpu' if virtual else 'cpu'}-{file_system}-{storage}"
    return {
        "name": "-".join([name, re.sub(r"[^a-z0-9]+", "-", gpu.lower())]) if gpu else name,
        "gpu": gpu,
        "cpu": model.group(1) if model else platform.machine(),
        "cores": cores,
        "virtual": virtual,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "kernel": platform.release().split("-")[0],
        "file_system": file_system,
        "mount_options": options,
        "storage": storage,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _DISTRIBUTIONS},
    }


def _mount_of(folder: Path) -> tuple[str, str, str]:
    """Type, options and kind of device of the file system that holds `folder`."""
    best, found = Path(), ("unknown", "", "unknown")
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        device, mount_point, file_system, options = line.split()[:4]
        point = Path(mount_point.replace("\\040", " "))
        if folder.resolve().is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, found = point, (file_system, _public_options(options), _transport(device))
    return found


def _public_options(options: str) -> str:
    """Those without a value: the others may name folders or people."""
    return ",".join(option for option in options.split(",") if "=" not in option)


def _transport(device: str) -> str:
    node = Path(device).name
    return next((kind for prefix, kind in _TRANSPORTS.items() if node.startswith(prefix)), "memory")


def version(distribution: str) -> str:
    """Of an installed distribution, or a remark that there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a distribution"

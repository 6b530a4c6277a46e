"""What a save or a restore depends on, besides the program: for a look, and for a report of an error.

Nothing of torch is imported, and nothing that is secret is told: of keys only whether they are set.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sucrose.engine import build_info, get_engine
from sucrose.engine.host_memory import free_host_nbytes
from sucrose.errors import SucroseError
from sucrose.options import Options, current_options
from sucrose.storage.free_space import free_nbytes

_PACKAGES = ("torch", "numpy", "msgspec", "xxhash", "zstandard", "safetensors", "tensorboard", "typer", "rich")
_VARIABLES = re.compile(
    "(SUCROSE|LATTICE)_[A-Z0-9_]+|CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|PYTORCH_CUDA_ALLOC_CONF|PYTORCH_ALLOC_CONF"
)
_SECRET = re.compile("KEY|SECRET|TOKEN|PASSWORD")
_USER_IN_URL = re.compile(r"//[^@/\s]*@")
_LIMITS = {
    "memlock_nbytes": resource.RLIMIT_MEMLOCK,
    "nofile": resource.RLIMIT_NOFILE,
    "fsize_nbytes": resource.RLIMIT_FSIZE,
    "address_space_nbytes": resource.RLIMIT_AS,
}


def environment(path: str) -> dict[str, dict[str, Any]]:
    """Facts by topic, each a name and a value that JSON can hold.

    Args:
        path: where checkpoints go: its file system is looked at. It need not be there yet.

    Example:
        >>> from sucrose.overview.environment import environment
        >>> sorted(environment("/tmp"))[:4]
        ['build', 'cuda', 'engine', 'environment']
    """
    return {
        "versions": _versions(),
        "build": dict(build_info()),
        "engine": _engine(),
        "cuda": _cuda(),
        "options": _options(),
        "environment": _environment(),
        "storage": _storage(path),
        "memory": _memory(),
    }


def redacted(name: str, value: str) -> str:
    """The value of an environment variable as it may be told to others.

    Example:
        >>> from sucrose.overview.environment import redacted
        >>> redacted("SUCROSE_SIGNING_KEY", "hunter2"), redacted("LATTICE_REMOTE", "redis://me:hunter2@host/0")
        ('set', 'redis://***@host/0')
    """
    return "set" if _SECRET.search(name) else _USER_IN_URL.sub("//***@", value)


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"sucrose": version("torch-sucrose")}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    system = os.uname()
    return {
        **found,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "system": f"{system.sysname} {system.release} {system.machine}",
        "libc": " ".join(platform.libc_ver()),
    }


def _engine() -> dict[str, Any]:
    try:
        stats = get_engine().stats()
    except SucroseError as error:
        return {"problem": str(error)}
    return {name: value for name, value in stats.items() if not name.endswith(("nbytes", "files"))}


def _cuda() -> dict[str, Any]:
    """What the driver tells in /proc: asking the driver itself would make a context on a device."""
    driver = Path("/proc/driver/nvidia")
    models = []
    for information in sorted(driver.glob("gpus/*/information")):
        found = re.search(r"^Model:\s*(.*)$", _text(information), re.MULTILINE)
        models.append(found[1].strip() if found else "unknown")
    lines = _text(driver / "version").splitlines()
    return {"driver": build_info().get("cuda_driver"), "kernel_module": lines[0] if lines else None, "devices": models}


def _options() -> dict[str, Any]:
    try:
        options = current_options()
    except SucroseError as error:
        return {"problem": str(error)}
    return {
        option.name: {
            "value": redacted(option.name.upper(), value) if value and isinstance(value, str) else value,
            "variable": f"SUCROSE_{option.name.upper()}",
            "is_set": f"SUCROSE_{option.name.upper()}" in os.environ,
            "is_default": value == option.default,
        }
        for option in fields(Options)
        for value in [getattr(options, option.name)]
    }


def _environment() -> dict[str, Any]:
    return {name: redacted(name, value) for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)}


def _storage(path: str) -> dict[str, Any]:
    there = os.path.realpath(path)
    while not os.path.exists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    status = os.statvfs(there)
    return {
        "path": os.path.abspath(path),
        **_mount(there),
        "free_nbytes": free_nbytes(os.path.join(there, "a")),
        "total_nbytes": status.f_frsize * status.f_blocks,
        "free_inodes": status.f_favail if status.f_files else None,
        "writable": os.access(there, os.W_OK),
    }


def _mount(path: str) -> dict[str, Any]:
    """The file system that a path lies in: the last of the deepest mounts above it, as mounts may cover others."""
    best: dict[str, Any] = {"mount": None, "file_system": None, "source": None, "mount_options": None}
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        mounted, separator, kind = line.partition(" - ")
        words, more = mounted.split(), kind.split()
        if not separator or len(words) < 6 or len(more) < 2:
            continue
        point = words[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best["mount"] or ""):
            best = {"mount": point, "file_system": more[0], "source": more[1], "mount_options": words[5]}
    return best


def _memory() -> dict[str, Any]:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _text(Path("/proc/meminfo")), re.MULTILINE)
    limits = {name: resource.getrlimit(number)[0] for name, number in _LIMITS.items()}
    return {
        "total_nbytes": int(found[1]) * 1024 if found else None,
        "free_nbytes": free_host_nbytes(),
        "processors": len(os.sched_getaffinity(0)),
        **{f"limit_{name}": None if limit == resource.RLIM_INFINITY else limit for name, limit in limits.items()},
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

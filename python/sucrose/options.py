"""Every knob in one place: defaults, and the environment variables that override them.

| variable | option | default | meaning |
| --- | --- | --- | --- |
| `SUCROSE_ENGINE` | `engine` | `auto` | `native`, `reference`, or native where it can be imported |
| `SUCROSE_IO_BACKEND` | `io_backend` | `auto` | `io_uring`, `threads`, or io_uring where it works |
| `SUCROSE_READ_MODE` | `read_mode` | `auto` | `buffered`, `direct`, or from the page cache where it holds the data |
| `SUCROSE_RING_SLOTS` | `ring_slots` | 32 | staging buffers of 4 MiB each |
| `SUCROSE_WORKERS` | `workers` | 0 | threads that copy and digest; 0 is one for each processor, up to 16 |
| `SUCROSE_IO_DEPTH` | `io_depth` | 16 | threads of the threaded backend |
| `SUCROSE_DIRECT_MIN_NBYTES` | `direct_min_nbytes` | 1 MiB | smaller files go through the page cache |
| `SUCROSE_MAX_FILE_NBYTES` | `max_file_nbytes` | 16 GiB | past it a snapshot begins another data file |
| `SUCROSE_MAX_CHUNK_NBYTES` | `max_chunk_nbytes` | 0 | larger tensors are listed as several pieces; 0 never |
| `SUCROSE_COMPRESSION` | `compression` | `none` | of snapshots: `zstd`, `zstd:LEVEL` or `auto`, see `Compression` |
| `SUCROSE_FINGERPRINTS` | `fingerprints` | 0 | 1: every take stores them, so that others can refer to it at once |
| `SUCROSE_CUDA_DRIVER` | `cuda_driver` | `auto` | the system's `libcuda.so.1`, `off`, or the path of a driver |
| `SUCROSE_STAGING` | `staging` | `auto` | where `async_take` copies to: `device`, `host`, or by free memory |
| `SUCROSE_STAGING_NBYTES` | `staging_nbytes` | 0 | host memory for that; 0 is half of what is free |
| `SUCROSE_GRACE_S` | `grace_s` | 25 | seconds from SIGTERM until the process should be gone |
| `SUCROSE_WARN_SIGNALS` | `warn_signals` |  | `SIGUSR1`, `SIGUSR2` or both: states are saved, the program goes on |
| `SUCROSE_LOADER_SKIP` | `loader_skip` | `exact` | how batches of workers are skipped: `exact` or `fast` |
| `SUCROSE_RANK_TIMEOUT_S` | `rank_timeout_s` | 300 | seconds of silence after which a rank is given up |
| `SUCROSE_LAST_SAVE_WAIT_S` | `last_save_wait_s` | 10 | seconds that a rank waits at its end for the others |
| `SUCROSE_TRACE` | `trace` |  | file for a trace of the pipeline; `%p` becomes the process id |

The `engine`, I/O, `cuda_driver` and `trace` options are read when the engine is first used, those of signals when
the state managers' group is made, a scenario is started, or `should_stop` is first called, `loader_skip` when a pass
is resumed, the rest by each `take`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any

from sucrose.compression import Compression
from sucrose.errors import ConfigError

_ALLOWED = {
    "engine": ("auto", "native", "reference"),
    "io_backend": ("auto", "io_uring", "threads"),
    "read_mode": ("auto", "buffered", "direct"),
    "staging": ("auto", "host", "device"),
    "loader_skip": ("exact", "fast"),
}
_FREE_TEXT = frozenset({"cuda_driver", "trace"})
_WARN_SIGNALS = ("SIGUSR1", "SIGUSR2")
_MINIMUM = {"ring_slots": 1, "io_depth": 1}
_MAXIMUM = {"fingerprints": 1}
_LIMIT = 1 << 63  # what the native core can count to


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the table above lists; sizes in bytes, times in seconds."""

    engine: str = "auto"
    io_backend: str = "auto"
    read_mode: str = "auto"
    ring_slots: int = 32
    workers: int = 0
    io_depth: int = 16
    direct_min_nbytes: int = 1 << 20
    max_file_nbytes: int = 16 << 30
    max_chunk_nbytes: int = 0
    compression: str = "none"
    fingerprints: int = 0
    cuda_driver: str = "auto"
    staging: str = "auto"
    staging_nbytes: int = 0
    grace_s: float = 25
    warn_signals: str = ""
    loader_skip: str = "exact"
    rank_timeout_s: float = 300
    last_save_wait_s: float = 10
    trace: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Options:
        """Defaults with the overrides of `environ`.

        Raises:
            ConfigError: a value is not one of the allowed ones.
        """
        given: dict[str, Any] = {}
        for option in fields(cls):
            variable = f"SUCROSE_{option.name.upper()}"
            if variable in environ:
                given[option.name] = _parse(option.name, variable, environ[variable])
        return cls(**given)


def _parse(name: str, variable: str, text: str) -> str | float:
    if name in _ALLOWED:
        if text not in _ALLOWED[name]:
            raise ConfigError(f"{variable}={text!r}: expected one of {', '.join(_ALLOWED[name])}")
        return text
    if name in _FREE_TEXT:
        return text
    if name == "compression":
        try:
            Compression.parse(text)
        except ConfigError as error:
            raise ConfigError(f"{variable}: {error}") from None
        return text
    if name in ("grace_s", "rank_timeout_s", "last_save_wait_s"):
        return _parse_seconds(variable, text)
    if name == "warn_signals":
        return _parse_signals(variable, text)
    minimum, maximum = _MINIMUM.get(name, 0), _MAXIMUM.get(name, _LIMIT - 1)
    try:
        value = int(text)
    except ValueError:
        value = minimum - 1
    if not minimum <= value <= maximum:
        raise ConfigError(f"{variable}={text!r}: expected a whole number from {minimum} to {maximum}")
    return value


def _parse_seconds(variable: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{variable}={text!r}: expected a number of seconds above 0")
    return seconds


def _parse_signals(variable: str, text: str) -> str:
    names = []
    for part in text.split(",") if text.strip() else []:
        name = part.strip().upper()
        names.append(name if name.startswith("SIG") else f"SIG{name}")
        if names[-1] not in _WARN_SIGNALS:
            raise ConfigError(f"{variable}={text!r}: expected {' or '.join(_WARN_SIGNALS)}, or both with a comma")
    return ",".join(names)


_overrides: ContextVar[tuple[tuple[str, Any], ...]] = ContextVar("sucrose_options", default=())


def current_options() -> Options:
    """The options in force: defaults, then environment, then `override_options`."""
    return replace(Options.from_environment(os.environ), **dict(_overrides.get()))


@contextmanager
def override_options(**values: Any) -> Iterator[None]:
    """Sets options for the code inside the `with` block, in this thread."""
    token = _overrides.set((*_overrides.get(), *values.items()))
    try:
        yield
    finally:
        _overrides.reset(token)

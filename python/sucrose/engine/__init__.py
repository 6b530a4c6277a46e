"""Moves bytes between memory and files: see `base` for the interface.

Only this package imports the native core.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace

from sucrose.engine.base import (
    CHUNK_NBYTES,
    DIGEST_NBYTES,
    CorruptChunk,
    Encoding,
    Engine,
    Extents,
    ReadResult,
    ReadTicket,
    Staging,
    StoredChunks,
    Strides,
    Ticket,
    WriteResult,
    WriteTicket,
)
from sucrose.engine.relay import Block, RelayedReadTicket, RelayedWriteTicket, Request
from sucrose.errors import ConfigError
from sucrose.options import Options, current_options

__all__ = [
    "CHUNK_NBYTES",
    "DIGEST_NBYTES",
    "Block",
    "CorruptChunk",
    "Encoding",
    "Engine",
    "Extents",
    "ReadResult",
    "ReadTicket",
    "RelayedReadTicket",
    "RelayedWriteTicket",
    "Request",
    "Staging",
    "StoredChunks",
    "Strides",
    "Ticket",
    "WriteResult",
    "WriteTicket",
    "build_info",
    "fail_exit",
    "get_engine",
    "make_engine",
]

_shared: dict[str, Engine] = {}


class _Start:
    """Guards the making of shared engines. A signal handler may save in the middle of that."""

    lock = threading.RLock()


def make_engine(options: Options) -> Engine:
    """A new engine with threads and buffers of its own.

    Raises:
        ConfigError: `options` demand what this machine or build does not have.
    """
    if options.engine != "reference":
        try:
            from sucrose.engine.native import NativeEngine
        except ImportError as error:
            if options.engine == "native":
                raise ConfigError(f"the native engine cannot be imported: {error}") from error
        else:
            try:
                return NativeEngine(options)
            except ValueError as error:
                raise ConfigError(str(error)) from error
    from sucrose.engine.reference import ReferenceEngine

    return ReferenceEngine()


def get_engine(name: str | None = None) -> Engine:
    """The process's engine, made by the first call; `name` is ``"native"`` or ``"reference"``.

    Without a name it is the one that the options choose.
    """
    options = current_options()
    wanted = options.engine if name is None else name
    engine = _shared.get(wanted)
    if engine is None:
        with _Start.lock:
            engine = _shared.get(wanted)
            if engine is None:
                engine = _shared.setdefault(wanted, make_engine(replace(options, engine=wanted)))
    return engine


def build_info() -> dict[str, str]:
    """How the package was built and what it finds here: compiler, flags, zstd, io_uring, CUDA.

    Example:
        >>> import sucrose
        >>> sorted(sucrose.build_info())[:3]
        ['build_type', 'compiler', 'cuda_driver']
    """
    try:
        from sucrose import _core
    except ImportError as error:
        return {"engine": f"reference only: {error}"}
    return dict(_core.build_info())


def fail_exit(status: int = 1) -> None:
    """Makes the process end with `status` where it would end with 0. For handlers of `atexit` only.

    The native core changes a status of 0 when the C library exits, and leaves any other. Of several
    calls the lowest status counts: a failure, 1, outweighs 143, which says that a signal came. Plain
    Python cannot: nobody tells it the status, and an exception in an `atexit` handler changes
    nothing. There the process ends at once, with `status`; handlers that were registered before
    this package was imported do not run.
    """
    try:
        from sucrose import _core
    except ImportError:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # a stream may be None, broken or closed
                stream.flush()
        os._exit(status)
    _core.fail_exit(status)


def _forget_inherited_lock() -> None:
    _Start.lock = threading.RLock()  # the parent may have held it while forking


os.register_at_fork(after_in_child=_forget_inherited_lock)

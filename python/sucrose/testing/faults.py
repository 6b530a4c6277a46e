"""Calls that fail, fall short or end the process, and how many calls there are."""

from __future__ import annotations

import errno as errnos
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sucrose import _core
from sucrose.testing.python_calls import watched

SITES: tuple[str, ...] = _core.FAULT_SITES
"""Names of the places at which the package calls the system.

Files: open, pwrite (every kind of write), pread (every kind of read), fsync, close, ftruncate, fallocate, mmap, rename,
exchange (of two directories), mkdir, unlink, rmdir, stat, listdir. Memory: allocate. Threads: thread_start. io_uring:
submit, completion. CUDA: d2h, h2d. Compression: compress.
"""


@dataclass(slots=True)
class Injection:
    """What `inject` has done.

    Attributes:
        hits: calls that failed; known when the block is over.
    """

    hits: int = 0


@contextmanager
def inject(
    site: str, *, nth: int = 1, errno: int | str = errnos.EIO, times: int = 1, forever: bool = False
) -> Iterator[Injection]:
    """Lets calls at a site fail inside the ``with`` block, in all threads.

    Args:
        site: one of `SITES`.
        nth: the first call that fails, counted from 1 and from the beginning of the block.
        errno: what it fails with, as a number or by its name, such as ``"ENOSPC"``. Memory that cannot be had, copies
            that fail and threads that cannot be started have errors of their own.
        times: how many calls in a row fail.
        forever: all calls from the `nth` on fail instead.

    Raises:
        ValueError: there is no such site, or `nth` or `times` is below 1, or `errno` is no error.

    Example:
        >>> import errno, tempfile, torch
        >>> from sucrose import Snapshot, StateDict
        >>> from sucrose.testing import inject
        >>> state = {"state": StateDict(weight=torch.ones(3))}
        >>> with inject("fsync", errno=errno.ENOSPC) as injection:
        ...     try:
        ...         Snapshot.take(f"{tempfile.mkdtemp()}/step_1", state)
        ...     except OSError as error:
        ...         print(errno.errorcode[error.errno])
        ENOSPC
        >>> injection.hits
        1
    """
    number = _number_of(errno) if isinstance(errno, str) else errno
    if nth < 1 or times < 1 or number < 1:
        raise ValueError(f"nth={nth}, times={times}, errno={errno}: each must be at least 1")
    injection = Injection()
    with watched():
        rule = _core.fault_add(site, nth=nth, times=_core.FAULT_FOREVER if forever else times, errno=number)
        try:
            yield injection
        finally:
            injection.hits = _core.fault_remove(rule)


def _number_of(name: str) -> int:
    if name not in errnos.errorcode.values():
        raise ValueError(f"errno={name!r}: expected a number or a name of the module errno, such as 'ENOSPC'")
    return int(getattr(errnos, name))


@contextmanager
def kill(site: str, *, nth: int = 1) -> Iterator[None]:
    """Ends the process by SIGKILL just before the `nth` call at `site` inside the ``with`` block.

    Example:
        >>> import os, tempfile
        >>> from sucrose.testing import kill
        >>> from sucrose.storage.leases import lease
        >>> child = os.fork()
        >>> if child == 0:
        ...     with kill("open"):
        ...         _ = lease("/tmp")
        >>> os.WTERMSIG(os.waitpid(child, 0)[1])
        9

    Args:
        site: one of `SITES`.
        nth: counted from 1 and from the beginning of the block.

    Raises:
        ValueError: there is no such site, or `nth` is below 1.
    """
    if nth < 1:
        raise ValueError(f"nth={nth}: expected at least 1")
    with watched():
        rule = _core.fault_add(site, nth=nth, times=1, errno=0)
        try:
            yield
        finally:
            _core.fault_remove(rule)


@contextmanager
def short_transfers(nbytes: int | Literal["half"]) -> Iterator[None]:
    """Lets each read and write move at most `nbytes` bytes, or half of what it was asked for.

    Direct I/O moves whole blocks of 4 KiB, and at least one.

    Example:
        >>> import torch, sucrose
        >>> from sucrose.testing import short_transfers
        >>> with short_transfers(7):
        ...     sucrose.save(torch.arange(3), "/tmp/short.pt")
        >>> sucrose.load("/tmp/short.pt")
        tensor([0, 1, 2])
    """
    if nbytes != "half" and nbytes < 1:
        raise ValueError(f"nbytes={nbytes}: expected at least 1, or 'half'")
    with watched():
        _core.fault_limit_transfers(_core.FAULT_HALF_OF_EACH if nbytes == "half" else nbytes)
        try:
            yield
        finally:
            _core.fault_limit_transfers(0)


@contextmanager
def shuffled_completions(seed: int) -> Iterator[None]:
    """Lets the engine hear of requests to an io_uring in an order drawn with `seed`; 1 or more."""
    if seed < 1:
        raise ValueError(f"seed={seed}: expected at least 1")
    _core.fault_shuffle_completions(seed)
    try:
        yield
    finally:
        _core.fault_shuffle_completions(0)


@contextmanager
def count_calls() -> Iterator[dict[str, int]]:
    """Counts the calls at each site. The dict has them when the block is over. One at a time.

    Example:
        >>> import torch, sucrose
        >>> from sucrose.testing import count_calls
        >>> with count_calls() as calls:
        ...     sucrose.save(torch.arange(3), "/tmp/counted.pt")
        >>> calls["fsync"], calls["rename"]  # of the file and of its folder
        (2, 1)
    """
    calls: dict[str, int] = {}
    with watched():
        _core.fault_count_calls(True)
        try:
            yield calls
        finally:
            calls.update(zip(SITES, _core.fault_counts(), strict=True))
            _core.fault_count_calls(False)

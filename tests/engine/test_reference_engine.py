"""What is particular to the engine in pure Python."""

from __future__ import annotations

import errno
import os
import tracemalloc
from array import array
from typing import TYPE_CHECKING

import pytest

from sucrose.engine import CHUNK_NBYTES, Extents, Strides
from sucrose.engine.reference import ReferenceEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.any_backend


def extents_of(content: bytes) -> Extents:
    extents = Extents()
    extents.append_bytes(content)
    return extents


def test_a_write_takes_no_more_memory_than_a_chunk(tmp_path: Path) -> None:
    sources = extents_of(bytes(16 * CHUNK_NBYTES))
    tracemalloc.start()
    try:
        digests = ReferenceEngine().write(str(tmp_path / "f"), sources, durable=False).wait().digests
        ReferenceEngine().verify(str(tmp_path / "f"), file_nbytes=16 * CHUNK_NBYTES, digests=digests).wait()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * CHUNK_NBYTES


def test_writes_and_reads_that_stop_short_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(100_000)
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:7777], offset))
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: preadv(fd, [buffers[0][:5555]], offset))
    engine = ReferenceEngine()
    digests = engine.write(str(tmp_path / "f"), extents_of(content)).wait().digests
    assert (tmp_path / "f").read_bytes() == content
    assert engine.verify(str(tmp_path / "f"), file_nbytes=len(content), digests=digests).wait().corrupt == []


def failing(code: int) -> Callable[..., None]:
    def fail(*_args: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_errors_of_the_system_are_raised_by_wait_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, failing(errno.ENOSPC))
    ticket = ReferenceEngine().write(str(tmp_path / "f"), extents_of(b"abc"))
    with pytest.raises(OSError, match="No space left") as raised:
        ticket.wait()
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "f"))
    assert ticket.progress() == (0, 3)


def test_a_write_that_need_not_be_durable_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    assert ReferenceEngine().write(str(tmp_path / "f"), extents_of(b"abc"), durable=False).wait().nbytes == 3


def test_a_file_that_shrinks_while_it_is_read_is_an_input_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"abcdef")
    monkeypatch.setattr(os, "preadv", lambda *_args: 0)
    with pytest.raises(OSError, match="ended early") as raised:
        ReferenceEngine().read(str(tmp_path / "f"), array("Q", [0]), extents_of(bytes(3)), file_nbytes=6).wait()
    assert raised.value.errno == errno.EIO


def test_arguments_that_contradict_one_another_are_refused(tmp_path: Path) -> None:
    engine = ReferenceEngine()
    (tmp_path / "f").write_bytes(b"abcdef")
    path = str(tmp_path / "f")
    with pytest.raises(ValueError, match="2 offsets for 1 destinations"):
        engine.read(path, array("Q", [0, 1]), extents_of(bytes(1)), file_nbytes=6)
    with pytest.raises(ValueError, match="5 bytes of digests, 16 for 6 bytes"):
        engine.verify(path, file_nbytes=6, digests=bytes(5))
    crooked = extents_of(b"abcdef")
    crooked.strided.append(Strides(extent=0, shape=(4,), strides=(2,), itemsize=2))
    with pytest.raises(ValueError, match="is not 6 bytes"):
        engine.write(str(tmp_path / "g"), crooked)


def test_totals_count_what_was_done(tmp_path: Path) -> None:
    engine = ReferenceEngine()
    engine.write(str(tmp_path / "f"), extents_of(b"abcdef")).wait()
    engine.read(str(tmp_path / "f"), array("Q", [1]), extents_of(bytes(2)), file_nbytes=6).wait()
    stats = engine.stats()
    assert (stats["files_written"], stats["nbytes_written"], stats["nbytes_read"]) == (1, 6, 2)

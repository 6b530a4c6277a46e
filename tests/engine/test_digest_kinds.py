"""Digests by SHA-256: what `hashlib` says, in both engines, for writing, reading and verifying."""

from __future__ import annotations

import ctypes
import hashlib
from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sucrose.engine import CHUNK_NBYTES, Extents, build_info, get_engine
from sucrose.engine.digests import digest_function

if TYPE_CHECKING:
    from pathlib import Path

    from sucrose.engine import Engine

SHA256 = "sha256-128"


@pytest.fixture(params=["reference", "native"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return get_engine(request.param)


def content_of(nbytes: int) -> bytes:
    return hashlib.shake_128(b"digest kinds").digest(nbytes)


def extents_of(content: bytes) -> Extents:
    extents = Extents()
    extents.append_bytes(content)
    return extents


def sha256_digests(content: bytes) -> bytes:
    chunks = [content[at : at + CHUNK_NBYTES] for at in range(0, len(content), CHUNK_NBYTES)]
    return b"".join(hashlib.sha256(chunk).digest()[:16] for chunk in chunks)


@settings(max_examples=60, deadline=None)
@given(data=st.one_of(st.binary(max_size=300), st.integers(0, 200_000).map(content_of)))
def test_a_sha256_digest_is_the_first_half_of_what_hashlib_says(data: bytes) -> None:
    expected = hashlib.sha256(data).digest()[:16]
    assert get_engine("native").digest(data, SHA256) == expected
    assert get_engine("reference").digest(data, SHA256) == expected
    assert digest_function(SHA256)(data) == expected


@pytest.mark.parametrize("nbytes", [0, 1, CHUNK_NBYTES, 2 * CHUNK_NBYTES + 70_001])
def test_a_file_is_written_and_checked_with_digests_of_either_kind(engine: Engine, tmp_path: Path, nbytes: int) -> None:
    content = content_of(nbytes)
    path = str(tmp_path / "f")
    written = engine.write(path, extents_of(content), digest_kind=SHA256).wait()
    assert written.digests == sha256_digests(content)
    assert engine.verify(path, file_nbytes=nbytes, digests=written.digests, digest_kind=SHA256).wait().corrupt == []
    if nbytes == 0:
        return
    by_the_other_kind = engine.verify(path, file_nbytes=nbytes, digests=written.digests).wait()
    assert len(by_the_other_kind.corrupt) == -(-nbytes // CHUNK_NBYTES)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_changed_byte_is_found_by_sha256_while_it_is_read(engine: Engine, tmp_path: Path, fresh: bool) -> None:
    content = bytearray(content_of(2 * CHUNK_NBYTES + 5))
    digests = sha256_digests(bytes(content))
    content[CHUNK_NBYTES + 17] ^= 1
    (tmp_path / "f").write_bytes(content)
    wanted = [(0, 100), (CHUNK_NBYTES - 10, 20), (2 * CHUNK_NBYTES, 5)]
    buffers = [bytearray(nbytes) for _, nbytes in wanted]
    extents = Extents(keep_alive=buffers)
    for buffer in buffers:
        extents.append(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), len(buffer))
    result = engine.read(
        str(tmp_path / "f"),
        array("Q", [offset for offset, _ in wanted]),
        extents,
        file_nbytes=len(content),
        digests=digests,
        digest_kind=SHA256,
        fresh=fresh,
    ).wait()
    assert [chunk.index for chunk in result.corrupt] == [1]
    assert result.corrupt[0].found == sha256_digests(bytes(content))[16:32].hex()
    assert [bytes(buffer) for buffer in buffers] == [bytes(content[at : at + n]) for at, n in wanted]


def test_an_unknown_kind_of_digest_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'md5'; expected 'xxh3-128' or 'sha256-128'"):
        engine.write(str(tmp_path / "f"), extents_of(b"abc"), digest_kind="md5")
    with pytest.raises(ValueError, match="'md5'"):
        engine.digest(b"abc", "md5")
    assert not (tmp_path / "f").exists()


def test_the_build_tells_what_computes_sha256() -> None:
    assert build_info()["sha256_kernel"] in ("instructions", "portable")

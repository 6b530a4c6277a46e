"""`.snapshot_index`: the first line; the second one, its digest, is always right."""

from __future__ import annotations

from contextlib import suppress

from xxhash import xxh3_128_digest

from sucrose.engine import CHUNK_NBYTES
from sucrose.errors import SucroseError
from sucrose.formats.index import decode_index, encode_index

PLAIN = b"""{"format_version":1,"writer":"torch-sucrose 0.1.0","digest":"xxh3-128","chunk_nbytes":4194304,
"metadata":{"nbytes":10,"digests":"00112233445566778899aabbccddeeff"},
"files":{"data/0_0.safetensors":{"nbytes":4194305,
"digests":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"},"objects/0/a":{"nbytes":0,"digests":""}},
"state_dict_metadata":{"0/m":{"":{"version":1}}}}"""

LATER = b"""{"format_version":2,"writer":"w","digest":"sha256-128","chunk_nbytes":4194304,
"metadata":{"nbytes":1,"digests":"00112233445566778899aabbccddeeff"},"files":{"../base/data/0_0.safetensors.zst":{"nbytes":100,
"digests":"00112233445566778899aabbccddeeff","stored":{"codec":"zstd","sizes":[90],"groups":"4"}}},
"bases":{"../base":{"metadata":{"nbytes":1,"digests":"00112233445566778899aabbccddeeff"}}},
"fingerprints":{"0/s/t":"00112233445566778899aabbccddeeff"}}"""


def seeds() -> dict[str, bytes]:
    """An index of each format version."""
    return {"version_1.json": PLAIN, "version_2.json": LATER}


def check(data: bytes) -> None:
    """What is accepted has numbers that the engine takes."""
    line = data.replace(b"\n", b" ")
    with suppress(SucroseError):
        index = decode_index(_with_digest(line), xxh3_128_digest, chunk_nbytes=CHUNK_NBYTES, path="index")
        again = decode_index(encode_index(index, xxh3_128_digest), xxh3_128_digest, chunk_nbytes=CHUNK_NBYTES, path="i")
        assert again == index
        for record in index.files.values():
            chunks = -(-record.nbytes // CHUNK_NBYTES)
            assert len(record.packed_digests()) == 16 * chunks
            assert record.nbytes_on_disk >= 0
            if record.stored is not None:
                assert len(record.stored.packed_sizes()) == chunks
                assert len(record.stored.packed_groups()) in (0, chunks)


def _with_digest(line: bytes) -> bytes:
    return line + b"\n" + xxh3_128_digest(line).hex().encode() + b"\n"

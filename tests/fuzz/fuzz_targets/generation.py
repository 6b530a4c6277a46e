"""`.generation`: the first line; the second one, its digest, is always right."""

from __future__ import annotations

from contextlib import suppress

from xxhash import xxh3_128_hexdigest

from sucrose.errors import SucroseError
from sucrose.formats.generation import decode_generation, encode_generation

LINE = b"""{"format_version":1,"id":"step_3-0123abcd","step":3,"timeline":0,"committed_ns":1795353215359696535,
"metrics":{"loss":0.5,"accuracy":"nan"},"pinned":false,"durable":true,"nbytes":9940}"""


def seeds() -> dict[str, bytes]:
    """One record."""
    return {"record.json": LINE}


def check(data: bytes) -> None:
    """What is accepted can be written again."""
    line = data.replace(b"\n", b" ")
    with suppress(SucroseError):
        record = decode_generation(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n", path="generation")
        assert decode_generation(encode_generation(record), path="generation").id == record.id

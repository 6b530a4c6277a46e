"""`.generation`: what makes a snapshot a generation of a catalog.

Two lines, as in the index: a JSON object, and the XXH3-128 of that first line (without its newline) in
hex. The snapshot's index has the digest of the whole file. See docs/catalog.md.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from xxhash import xxh3_128_hexdigest

from sucrose.errors import CorruptionError, FormatVersionError

GENERATION_FILE = ".generation"
GENERATION_VERSION = 2
"""The newest that this release reads; whoever refers to no other generation is of version 1."""

MAX_COUNT = (1 << 63) - 1
"""Of every number in it."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class GenerationRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Contents of the file.

    `id` is the name of the folder that was written: a copy under another name is no generation. NaN and
    infinities among the metrics are strings in the file, as JSON has no numbers for them.
    """

    format_version: int
    id: str
    step: _Count
    timeline: _Count
    committed_ns: _Count
    metrics: dict[str, float | str]
    pinned: bool
    durable: bool
    nbytes: _Count
    bases: list[str] = []
    """Names of the generations that this one refers to, and cannot do without."""
    increments: _Count = 0
    """Saves since the last whole one: 0 for a whole one."""

    def metrics_as_floats(self) -> dict[str, float]:
        """The metrics as they were given."""
        return {name: float(value) for name, value in self.metrics.items()}


class _Version(msgspec.Struct):
    format_version: int


_decoder = msgspec.json.Decoder(GenerationRecord)
_version_decoder = msgspec.json.Decoder(_Version)


def encode_generation(record: GenerationRecord) -> bytes:
    """The file's contents."""
    metrics = {
        name: value if math.isfinite(value) else str(value) for name, value in record.metrics_as_floats().items()
    }
    # Readers of version 1 would remove what others refer to.
    version = 2 if record.bases or record.increments else 1
    line = msgspec.json.encode(msgspec.structs.replace(record, format_version=version, metrics=metrics))
    return line + b"\n" + xxh3_128_hexdigest(line).encode("ascii") + b"\n"


def decode_generation(data: bytes, *, path: str) -> GenerationRecord:
    """Parses and checks the file's contents.

    Args:
        data: contents of the file.
        path: where the contents come from, for messages.

    Raises:
        CorruptionError: the file is damaged or malformed.
        FormatVersionError: a newer release wrote it.
    """
    line, _, trailer = data.partition(b"\n")
    found = xxh3_128_hexdigest(line)
    if trailer != found.encode("ascii") + b"\n":
        expected = trailer[:40].decode("ascii", "replace").strip() or "none, as the file is cut off"
        raise CorruptionError(
            f"{path}: digest {found} != {expected}. The file was changed after the generation was committed", path=path
        )
    try:
        version = _version_decoder.decode(line).format_version
        if not 1 <= version <= GENERATION_VERSION:
            raise FormatVersionError(
                f"{path}: format version {version}, this release reads 1 to {GENERATION_VERSION}: "
                "use a newer torch-sucrose for this catalog",
                path=path,
            )
        record = _decoder.decode(line)
        record.metrics_as_floats()
    except (ValueError, RecursionError) as error:
        raise CorruptionError(f"{path} is not the record of a generation: {error}", path=path) from error
    return record


def without_bases(data: bytes, *, path: str, added_nbytes: int) -> bytes:
    """The file's contents for the same generation, once it refers to no other and has so many bytes more.

    Raises:
        CorruptionError: the file is damaged or malformed.
        FormatVersionError: a newer release wrote it.
    """
    record = decode_generation(data, path=path)
    nbytes = min(record.nbytes + added_nbytes, MAX_COUNT)
    return encode_generation(msgspec.structs.replace(record, nbytes=nbytes, bases=[], increments=0))

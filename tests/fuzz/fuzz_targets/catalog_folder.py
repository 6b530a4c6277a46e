"""The small files of a catalog: generations' records, pins, reasons in quarantine, leftovers.

The bytes are lines: the kind, a name, and for some the contents.
"""

from __future__ import annotations

import shutil
from contextlib import suppress

from xxhash import xxh3_128_hexdigest

from fuzz_targets import generation
from fuzz_targets.scratch import scratch_folder
from sucrose.catalog.local.directory import LocalCatalogDirectory
from sucrose.errors import SucroseError

_ROOT = scratch_folder() / "catalog"
_NAME = b"step_3-0123abcd"


def seeds() -> dict[str, bytes]:
    """A catalog with one of each."""
    record = generation.LINE.replace(b"\n", b"")
    lines = [
        b"g " + _NAME + b" " + record, b"p " + _NAME + b".pinned", b"p step_4-01234567.unpinned",
        b"q step_2-89abcdef disk says no", b"d .step_9-01234567.tmp-" + b"0" * 32, b"t step_1-01234567",
        b"f notes.txt x",
    ]  # fmt: skip
    return {"one_of_each": b"\n".join(lines)}


def check(data: bytes) -> None:
    """Listing it gives an answer."""
    shutil.rmtree(_ROOT, ignore_errors=True)
    _ROOT.mkdir()
    for line in data.split(b"\n")[:20]:
        with suppress(OSError, ValueError):
            _make(line)
    with suppress(SucroseError, OSError):
        listing = LocalCatalogDirectory(str(_ROOT)).listing()
        assert len({found.id for found in listing.generations}) == len(listing.generations)
    for found in LocalCatalogDirectory(str(_ROOT)).quarantined():
        assert "\n" not in found.reason
    for name in LocalCatalogDirectory(str(_ROOT)).leftovers():
        assert (_ROOT / name).is_dir()


def _make(line: bytes) -> None:
    kind, _, rest = line.partition(b" ")
    name, _, content = rest.partition(b" ")
    text = name.decode("utf-8", "surrogateescape")
    if "/" in text or text in ("", ".", ".."):
        return
    folder = {b"p": ".pins", b"q": "quarantine", b"t": ".trash"}.get(kind, "")
    path = _ROOT / folder / text
    path.parent.mkdir(exist_ok=True)
    if kind == b"g":
        path.mkdir()
        (path / ".generation").write_bytes(content + b"\n" + xxh3_128_hexdigest(content).encode() + b"\n")
    elif kind == b"q":
        path.mkdir()
        (path / ".reason").write_bytes(content)
    elif kind in (b"d", b"t"):
        path.mkdir()
    else:
        path.write_bytes(content)

"""Snapshots as somebody makes them who means harm: all digests fit, whatever they are of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_hexdigest

CHUNK_NBYTES = 4 << 20


def digests_of(content: bytes) -> str:
    """As the index has them."""
    return "".join(xxh3_128_hexdigest(content[at : at + CHUNK_NBYTES]) for at in range(0, len(content), CHUNK_NBYTES))


def forge(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Lets `change` have its way with metadata and index, and makes all sizes and digests fit again.

    Records of files that are not there stay as `change` has left them.
    """
    metadata = json.loads((folder / ".snapshot_metadata").read_bytes())
    index = json.loads((folder / ".snapshot_index").read_bytes().partition(b"\n")[0])
    change(metadata, index)
    write_forged(folder, json.dumps(metadata).encode(), index)


def write_forged(folder: Path, metadata: bytes, index: dict[str, Any] | None) -> None:
    """Puts `metadata` there as it is, and an index that goes with it; none at all for None."""
    (folder / ".snapshot_metadata").write_bytes(metadata)
    if index is None:
        (folder / ".snapshot_index").unlink(missing_ok=True)
        return
    index["metadata"] = {"nbytes": len(metadata), "digests": digests_of(metadata)}
    for name, record in index["files"].items():
        if "stored" not in record:
            with suppress(OSError, ValueError):
                content = (folder / name).read_bytes()
                record |= {"nbytes": len(content), "digests": digests_of(content)}
    write_index_line(folder, json.dumps(index).encode())


def write_index_line(folder: Path, line: bytes) -> None:
    """The index with any first line."""
    (folder / ".snapshot_index").write_bytes(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n")


def payload(path: Path) -> Any:
    """An object whose unpickling creates `path`."""

    class Payload:
        def __reduce__(self) -> Any:
            return open, (str(path), "w")

    return Payload()


@contextmanager
def nothing_happens(*folders: Path) -> Iterator[None]:
    """Whatever is done inside changes no file below `folders`, and creates none."""
    before = [_contents(folder) for folder in folders]
    yield
    assert [_contents(folder) for folder in folders] == before


def _contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.lstat().st_size)
        for path in sorted(folder.rglob("*"))
    }

"""A whole snapshot, some of whose bytes were changed.

The bits of the first byte say whether the records are made to fit each other again afterwards, as somebody would do who
means harm, and whether the snapshot is compressed, signed, and refers to an earlier one. Then each six bytes are one
change: which file, what to do, where, and two bytes for that.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import zstandard
from xxhash import xxh3_128_hexdigest

from fuzz_targets.scratch import scratch_folder
from sucrose import Snapshot, StateDict
from sucrose.errors import SucroseError

_FOLDER = scratch_folder()
_DAMAGED = _FOLDER / "damaged"
_FORGED, _COMPRESSED, _SIGNED, _HAS_BASE = 1, 2, 4, 8
_KEY = "the key of whoever took it"
_METADATA, _INDEX = ".snapshot_metadata", ".snapshot_index"
_TOKENS = (
    b"-1", b"0", b"1e9", b"9223372036854775807", b"18446744073709551616", b"null", b"[]", b"{}", b'""', b'"../../x"',
    b'"/etc/passwd"', b'"torch.float64"', b'"torch.qint8"', b'"torch_save"', b'"zstd"', b"[0,1]",
    b"[4611686018427387904]",
    b'"list"', b'"dict"', b'"object"', b'"ChunkedTensor"', b"[[", b",", b'"data/0_0.safetensors"',
)  # fmt: skip


def _state() -> dict[str, Any]:
    tied = torch.arange(6.0)
    return {
        "weights": StateDict(a=tied, b=tied, half=torch.ones(3, dtype=torch.bfloat16), scalar=torch.tensor(2)),
        "rest": StateDict(step=3, name="n", ratio=0.5, flag=True, raw=b"x", items=[1, torch.zeros(2)], leaf=(1, "two")),
    }


def _targets() -> dict[str, Any]:
    state = _state()
    for stateful in state.values():
        for value in stateful.values():
            if isinstance(value, torch.Tensor):
                value.zero_()
    return state


def _take(mode: int) -> Path:
    path = _FOLDER / f"intact_{mode}"
    if not path.exists():
        key = _KEY if mode & _SIGNED else None
        base = _FOLDER / f"base_{mode}" if mode & _HAS_BASE else None
        if base is not None:
            state = {**_state(), "rest": StateDict(other=torch.ones(5))}
            Snapshot.take(base, state, durable=False, signing_key=key, base=None)
        compression = "zstd:1" if mode & _COMPRESSED else None
        Snapshot.take(path, _state(), durable=False, compression=compression, signing_key=key, base=base)
    return path


def seeds() -> dict[str, bytes]:
    """Nothing changed, a bit flipped in each file, and a few forgeries."""
    flips = b"".join(bytes([file, 0, 40, 0, 1, 0]) for file in range(4))
    return {
        "nothing": b"\x00",
        "flips": b"\x00" + flips,
        "cut": b"\x00" + bytes([0, 1, 100, 0, 0, 0]),
        "forged_token": b"\x01" + bytes([0, 3, 200, 0, 3, 0]) + bytes([0, 3, 90, 1, 9, 0]),
        "forged_swap": b"\x01" + bytes([1, 4, 2, 0, 0, 0]),
        "compressed": b"\x02" + bytes([2, 0, 30, 0, 1, 0]),
        "compressed_forged": b"\x03" + bytes([1, 3, 0, 1, 3, 0]),
        "signed": b"\x04",
        "signed_forged": b"\x05" + bytes([0, 3, 90, 1, 9, 0]),
        "with_base": b"\x08",
        "with_base_forged": b"\x09" + bytes([1, 3, 90, 1, 1, 0]),
        "all_forged": b"\x0f" + bytes([3, 0, 20, 0, 1, 0]),
    }


def check(data: bytes) -> None:
    """Reading gives what was saved, or an error; of forged records anything, or an error."""
    shutil.rmtree(_DAMAGED, ignore_errors=True)
    mode = data[0] if data else 0
    intact = _take(mode & (_COMPRESSED | _SIGNED | _HAS_BASE))
    key = _KEY if mode & _SIGNED else None
    # Where a key is asked for, whoever has none cannot forge.
    is_forged = bool(mode & _FORGED) and key is None
    shutil.copytree(intact, _DAMAGED)
    before = _contents()
    for at in range(1, min(len(data) - 5, 60), 6):
        _change(data[at : at + 6])
    if mode & _FORGED:
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            _forge()
    is_intact = _contents() == before
    with suppress(SucroseError, OSError):
        report = Snapshot(_DAMAGED, signing_key=key).verify()
        assert is_forged or bool(report) == is_intact
    with suppress(SucroseError, OSError):
        state = _targets()
        Snapshot(_DAMAGED, signing_key=key).restore(state)
        assert is_forged or _is_right({name: dict(stateful) for name, stateful in state.items()})
    with suppress(SucroseError, OSError):
        snapshot = Snapshot(_DAMAGED, signing_key=key)
        found = {name: snapshot.get_state_dict_for_key(name) for name in ("weights", "rest")}
        assert is_forged or _is_right(found)
    with suppress(SucroseError, OSError):
        snapshot = Snapshot(_DAMAGED, signing_key=key)
        for path in list(snapshot.get_manifest())[:30]:
            with suppress(SucroseError, OSError):
                snapshot.read_object(path)


def _files() -> list[Path]:
    """The metadata, the index, and the rest."""
    files = sorted(path for path in _DAMAGED.rglob("*") if path.is_file())
    return sorted(files, key=lambda path: (path.name != _METADATA, path.name != _INDEX))


def _contents() -> dict[str, bytes]:
    return {str(path.relative_to(_DAMAGED)): path.read_bytes() for path in _files()}


def _change(edit: bytes) -> None:
    files = _files()
    path = files[edit[0] % len(files)]
    content = bytearray(path.read_bytes())
    at = int.from_bytes(edit[2:4], "little") % (len(content) + 1)
    kind, value = edit[1] % 6, edit[4]
    if kind == 0 and at < len(content):
        content[at] ^= value
    elif kind == 1:
        del content[at:]
    elif kind == 2:
        content[at:at] = bytes([value]) * (edit[5] + 1)
    elif kind == 3:  # another token in the place of one of JSON
        end = at
        while end < len(content) and content[end] not in b",:{}[]":
            end += 1
        content[at:end] = _TOKENS[value % len(_TOKENS)]
    elif kind == 4:
        content = bytearray(files[value % len(files)].read_bytes())
    else:
        content[at : at + value] = content[edit[5] : edit[5] + value]
    path.write_bytes(content)


def _forge() -> None:
    """Sizes and digests of everything as it is now."""
    metadata = (_DAMAGED / _METADATA).read_bytes()
    index = json.loads((_DAMAGED / _INDEX).read_bytes().partition(b"\n")[0])
    index["metadata"] = {"nbytes": len(metadata), "digests": xxh3_128_hexdigest(metadata)}
    for name, record in index["files"].items():
        with suppress(OSError, zstandard.ZstdError):
            content = (_DAMAGED / name).read_bytes()
            if "stored" in record:
                record["stored"]["sizes"] = [len(content)]
                content = zstandard.decompress(content, max_output_size=1 << 20)
            if content and set(record.get("stored", {}).get("groups", "0")) <= {"0"}:
                record |= {"nbytes": len(content), "digests": xxh3_128_hexdigest(content)}
    line = json.dumps(index, separators=(",", ":")).encode()
    (_DAMAGED / _INDEX).write_bytes(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n")


def _is_right(found: dict[str, dict[str, Any]]) -> bool:
    expected = {name: dict(stateful) for name, stateful in _state().items()}
    return _same(found, expected)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return type(found) is type(expected) and found == expected

"""Signed snapshots, and what somebody without the key can do to one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from xxhash import xxh3_128_hexdigest

from sucrose import Snapshot, StateDict

KEY = "correct horse battery staple"
OTHER_KEY = b"\x01\x02, the key of another job"

METADATA = ".snapshot_metadata"
INDEX = ".snapshot_index"
SIGNATURE = ".snapshot_signature"
DATA = "data/0_0.safetensors"


def state_of(value: float = 1.0) -> dict[str, StateDict]:
    """A tensor, a primitive, and an object."""
    return {"state": StateDict(weight=torch.full((500,), value), steps=7, group=(1, 2))}


def take_signed(path: Path, value: float = 1.0, *, key: Any = KEY) -> Path:
    """A snapshot of `state_of(value)`, signed."""
    Snapshot.take(path, state_of(value), signing_key=key)
    return path


def weight_in(path: Path, **options: Any) -> float:
    """The value that the tensor of the snapshot has all over."""
    weight = Snapshot(path, **options).read_object("0/state/weight")
    assert bool((weight == weight[0]).all())
    return float(weight[0])


def with_other_index(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Makes an index anew, with a digest of itself that fits, as whoever knows the format can."""
    index = json.loads((path / INDEX).read_bytes().split(b"\n")[0])
    change(index)
    line = json.dumps(index, separators=(",", ":")).encode()
    (path / INDEX).write_bytes(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n")


def flipped(data: bytes, at: int) -> bytes:
    """The same with one bit of the byte at `at` changed."""
    return data[:at] + bytes([data[at] ^ (1 << (at % 8))]) + data[at + 1 :]

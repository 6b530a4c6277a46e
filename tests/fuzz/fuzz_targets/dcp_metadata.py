"""`.metadata` of a distributed checkpoint: a pickle that must run nothing, and the records that come of it.

Bytes are the pickle as it is, or after a zero byte, edits of a sound one, operation by operation: three bytes each, for
where, what, and which of the operations below comes in.
"""

from __future__ import annotations

import pickle
import pickletools
import resource
from contextlib import suppress
from typing import Any

import torch
from torch.distributed.checkpoint import metadata as records
from torch.distributed.checkpoint.filesystem import _StorageInfo

from fuzz_targets.scratch import scratch_folder
from sucrose.errors import CorruptionError, UnsafeObjectError
from sucrose.interchange import dcp_metadata
from sucrose.interchange.dcp_records import checked_keys, checked_records

_FOLDER = scratch_folder()
_SOUND_PATH, _PATH = str(_FOLDER / "sound"), str(_FOLDER / ".metadata")
_MAX_GROWTH_KIB = 512 << 10
_MAX_EDITS = 40
_CLASSES = [kind for kind in vars(records).values() if isinstance(kind, type)] + [_StorageInfo]
_called: list[Any] = []


def canary(*arguments: Any) -> Any:
    """Nobody may call it, nor what stands for it here: `os.system`, `eval` and their like."""
    _called.append(arguments)
    return arguments


def _metadata() -> records.Metadata:
    def tensor(dtype: torch.dtype, size: list[int], *parts: tuple[list[int], list[int]]) -> Any:
        chunks = [records.ChunkStorageMetadata(torch.Size(at), torch.Size(nbytes)) for at, nbytes in parts]
        return records.TensorStorageMetadata(records.TensorProperties(dtype), torch.Size(size), chunks)

    return records.Metadata(
        state_dict_metadata={
            "w": tensor(torch.float32, [4, 2], ([0, 0], [2, 2]), ([2, 0], [2, 2])),
            "b": tensor(torch.bfloat16, [], ([], [])),
            "step": records.BytesStorageMetadata(),
        },
        planner_data={"w": ("model", "w"), "b": ("model", 0), "step": ("step",)},
        storage_data={
            records.MetadataIndex("w", [0, 0], 0): _StorageInfo("__0_0.distcp", 0, 100),
            records.MetadataIndex("w", [2, 0], 1): _StorageInfo("__0_0.distcp", 100, 100),
            records.MetadataIndex("b", []): _StorageInfo("__1_0.distcp", 0, 50, ["zstd"]),
            records.MetadataIndex("step"): _StorageInfo("__1_0.distcp", 50, 50),
        },
        storage_meta=records.StorageMeta(checkpoint_id="step_1", modules=["m"]),
    )


def _operations(pickled: bytes) -> list[bytes]:
    begins = [at for _, _, at in pickletools.genops(pickled)]
    return [pickled[begin:end] for begin, end in zip(begins, [*begins[1:], len(pickled)], strict=True)]


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _bomb() -> bytes:
    """A list that holds one list twice, which does so too: short here, and endless as text."""
    names = [(256 + level).to_bytes(4, "little") for level in range(50)]
    opened = b"(".join(b"]r" + name for name in names)
    return opened + b"".join(b"j" + name + b"e" for name in names[:0:-1])


_PICKLED = pickle.dumps(_metadata(), protocol=2)
_SOUND = _operations(_PICKLED)
_TEXTS = (
    "w", "", "__getitem__", "__getattr__", "__iter__", "__len__", "__repr__", "__hash__", "__eq__", "__class__",
    "__dict__", "__setstate__", "__reduce__", "fqn", "offset", "chunks", "dtype", "relative_path", "length",
    "transform_descriptors", "parts", "torch.strided", "float32", "../x", "\0",
)  # fmt: skip
_SNIPPETS = [
    *(bytes([code]) for code in b"0123()]}tlduseabRQN.o\x81\x8f\x90\x91\x92\x93\x94\x85\x86\x87\x88\x89"),
    *(b"K" + bytes([number]) for number in (0, 1, 2, 4, 65, 255)),
    *(b"\x8a\x09" + bytes([255] * 8) + sign for sign in (b"\x00", b"\xff")),
    *(b"\x8a\x08" + (1 << power).to_bytes(8, "little") for power in (31, 40, 61)),
    *(b"X" + len(text).to_bytes(4, "little") + text.encode() for text in _TEXTS),
    *(b"h" + bytes([number]) for number in range(24)),
    *(b"q" + bytes([number]) for number in range(4)),
    b"G" + bytes(8), b"G\x7f\xf8" + bytes(6), b"\x82\x01", b"P1\n", b"I1\n", b"\x95" + bytes(8),
    *(_global(module, name) for module, name in dcp_metadata._known()),
    _global(__name__, "canary"), _global("builtins", "eval"), _global("os", "system"), _global("builtins", "getattr"),
    _global("torch", "load"), _global("functools", "partial"), _global("copyreg", "_reconstructor"),
    # a class is told what its instances do
    _global("torch.distributed.checkpoint.metadata", "ChunkStorageMetadata") + b"N}X\x0b\x00\x00\x00__getitem__"
    + _global("torch.distributed.checkpoint.metadata", "StorageMeta") + b"s\x86b",
    _bomb(),
]  # fmt: skip


def seeds() -> dict[str, bytes]:
    """A sound one, in two protocols, and one after an edit of each kind."""
    edits = b"".join(bytes([30 + 9 * kind, kind, 50]) for kind in range(5))
    return {
        "protocol_2": _PICKLED, "protocol_4": pickle.dumps(_metadata(), protocol=4), "edits": b"\x00" + edits,
        "unsafe": bytes([0, 40, 0, len(_SNIPPETS) - 9]), "class": bytes([0, 50, 1, len(_SNIPPETS) - 2]),
        "endless_as_text": bytes([0, 60, 0, len(_SNIPPETS) - 1]), "filled_afterwards": _filled_afterwards(),
    }  # fmt: skip


def _filled_afterwards() -> bytes:
    """A file's name is a list, which gets more than fits into any text when the record that has it is complete."""
    name: list[Any] = []
    metadata = _metadata()
    metadata.storage_data = {records.MetadataIndex("w", [0, 0]): _StorageInfo(name, 0, 100)}  # type: ignore[arg-type]
    both = pickle.dumps((name, metadata), protocol=2)
    number = b"\xff\x00\x00\x00"
    return both[: both.rindex(b"\x86")] + b"r" + number + b"h\x00" + _SNIPPETS[-1] + b"aj" + number + b"."


def check(data: bytes) -> None:
    """No code runs, no class changes, memory stays near the file's size; what is accepted can be looked at."""
    pickled = _edited(data[1:]) if data.startswith(b"\x00") else data
    before, peak = _classes(), _peak_kib()
    with open(_PATH, "wb") as file:
        file.write(pickled)
    with suppress(CorruptionError, UnsafeObjectError):
        metadata = dcp_metadata.read_metadata(_PATH)
        with suppress(CorruptionError):
            checked_keys(metadata, "folder")
        found = checked_records(metadata, "folder")
        assert all(type(name) is str for name in found)
    assert not _called, "code of the pickle's choice was run"
    assert _classes() == before
    assert _peak_kib() - peak < _MAX_GROWTH_KIB
    with open(_SOUND_PATH, "wb") as file:
        file.write(_PICKLED)
    assert len(checked_records(dcp_metadata.read_metadata(_SOUND_PATH), "folder")) == 3


def _edited(edits: bytes) -> bytes:
    operations = list(_SOUND)
    for at in range(0, min(len(edits) - 2, 3 * _MAX_EDITS), 3):
        where, what, which = edits[at : at + 3]
        where %= len(operations) or 1
        kind = what % 5
        if kind == 0:
            operations[where : where + 1] = [_SNIPPETS[which % len(_SNIPPETS)]]
        elif kind == 1:
            operations.insert(where, _SNIPPETS[which % len(_SNIPPETS)])
        elif kind == 2:
            del operations[where : where + 1 + which % 4]
        elif kind == 3:
            operations[where:where] = operations[which : which + 8]
        elif operations:
            other = which % len(operations)
            operations[where], operations[other] = operations[other], operations[where]
    return b"".join(operations)


def _classes() -> list[dict[str, Any]]:
    return [dict(vars(kind)) for kind in _CLASSES]


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

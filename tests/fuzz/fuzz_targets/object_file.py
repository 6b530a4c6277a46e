"""A file below `objects/`: what `torch.save` made of a leaf."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import torch

from sucrose.errors import SucroseError
from sucrose.snapshot.objects import dump_object, load_object


def seeds() -> dict[str, bytes]:
    """Leaves, and a file of torch before 1.6."""
    values: dict[str, Any] = {"tuple": (1, "two"), "none": None, "tensors": [torch.ones(2), torch.eye(2).to_sparse()]}
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    return {name: dump_object(value, "key") for name, value in values.items()} | {"legacy": buffer.getvalue()}


def check(data: bytes) -> None:
    """It restores or is refused."""
    with suppress(SucroseError):
        load_object(data, key="key", path="file", allow_pickle=False)

"""The record of a checkpoint: what it is, and what it was made with. JSON, beside the objects; no torch.

In a single file it is the zip record ``archive/sucrose.json``, which `torch.load` passes over; in a snapshot it
is the file ``sucrose.json``. NaN and infinities are written as Python's `json` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import msgspec

from sucrose.errors import CorruptionError, FormatVersionError, UnsupportedError
from sucrose.formats.limits import MAX_RECORD_NBYTES

RECORD_NAME = "sucrose.json"
RECORD_VERSION = 1
_MAPPINGS = ("config", "metrics", "logs")
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a checkpoint says about itself.

    Attributes:
        epoch: number of epochs that were finished.
        step: number of steps.
        is_mid_epoch: whether it was saved in the middle of the epoch after `epoch`.
        saved_ns: when, in nanoseconds since 1970.
        config: all fields of the scenario, resolved.
        overrides: those of them that did not come from the file, as ``field=value``.
        metrics: the latest value of each.
        logs: of each event file, how many bytes belong to the run up to here.

    Example:
        >>> from sucrose.scenarios.record import Record, decode_record, encode_record
        >>> record = Record(epoch=10, step=5000, is_mid_epoch=False, saved_ns=0, config={"optim.lr": 0.1},
        ...                 overrides=(), metrics={"loss": 0.5}, logs={})
        >>> decode_record(encode_record(record), path="e10.pt").metrics["loss"]
        0.5
    """

    epoch: _Count
    step: _Count
    is_mid_epoch: bool
    saved_ns: _Count
    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    metrics: Mapping[str, float]
    logs: Mapping[str, _Count]


def encode_record(record: Record) -> bytes:
    """The JSON.

    Raises:
        UnsupportedError: something in it has no place in JSON, or it is longer than what is read again.
    """
    own = {field.name: getattr(record, field.name) for field in fields(record)}
    content = {"format_version": RECORD_VERSION, **own, **{name: dict(own[name]) for name in _MAPPINGS}}
    try:
        # Surrogates: file names that are not UTF-8 come so from the command line.
        data = json.dumps(content, ensure_ascii=False, indent=1).encode(errors="backslashreplace")
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedError(
            f"the configuration or the metrics of a checkpoint cannot be written as JSON: {error}"
        ) from error
    if len(data) > MAX_RECORD_NBYTES:
        raise UnsupportedError(
            f"the configuration and the metrics of a checkpoint take {len(data)} bytes, more than the "
            f"{MAX_RECORD_NBYTES} that are read again: keep large values out of the config"
        )
    return data


def decode_record(data: bytes, *, path: str) -> Record:
    """Parses and checks the JSON, which anybody may have written.

    Args:
        data: contents.
        path: the checkpoint, for messages.

    Raises:
        CorruptionError: it is no record.
        FormatVersionError: a newer release wrote it.
    """
    try:
        content = json.loads(data)
        version = msgspec.convert(content.pop("format_version"), int)
        if version == RECORD_VERSION:
            _check_text(content)
            return msgspec.convert(content, Record)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CorruptionError(f"the record {RECORD_NAME!r} of {path} is none: {error}", path=path) from error
    raise FormatVersionError(
        f"{path}: its record has the format version {version}, this release reads {RECORD_VERSION}: use a newer "
        "torch-sucrose",
        path=path,
    )


def _check_text(content: object) -> None:
    """Refuses halves of surrogate pairs, which no terminal and no file takes."""
    json.dumps(content, ensure_ascii=False).encode()

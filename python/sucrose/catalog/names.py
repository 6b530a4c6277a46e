"""Names of what a catalog puts into its folder, and of nothing else.

A generation is ``step_<step>-<8 hex digits>``: unique, so that two processes, or one twice, may save the same
step. The digits say nothing about the order.
"""

from __future__ import annotations

import os
import re

QUARANTINE = "quarantine"
PINS = ".pins"
TRASH = ".trash"
REASON_FILE = ".reason"

# In object stores, beside the files of a generation.
REMOVED_FILE = ".removed"
QUARANTINED_METADATA = ".snapshot_metadata.quarantined"

_GENERATION = re.compile(r"step_(?:0|[1-9][0-9]*)-[0-9a-f]{8}")
_TEMPORARY = re.compile(rf"\.{_GENERATION.pattern}\.tmp-[0-9a-f]{{32}}")


def new_id(step: int) -> str:
    """A name for a generation that nobody else comes up with."""
    return f"step_{step}-{os.urandom(4).hex()}"


def is_generation_name(name: str) -> bool:
    """Whether a catalog may have given this name to a generation. Others may have chosen it, too."""
    return _GENERATION.fullmatch(name) is not None


def is_temporary_name(name: str) -> bool:
    """Whether this is a hidden directory in which a generation is, or was, being written."""
    return _TEMPORARY.fullmatch(name) is not None

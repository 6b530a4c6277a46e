"""Checkpoints that are single files.

1. A hidden folder beside the target is made, with a lease: whoever finds it can tell whether its maker lives.
2. The file is written there, and fsynced.
3. It is renamed over the target, and the target's folder is fsynced. Before this nothing has changed.
4. The hidden folder is removed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sucrose.engine import get_engine
from sucrose.scenarios.record import RECORD_NAME, Record, encode_record
from sucrose.snapshot.single_file import load, load_by_torch, save_with_records
from sucrose.storage import StagedDirectory, make_parents

_OWN_OPTIONS = frozenset({"map_location", "weights_only"})


def write_file(path: str, contents: Mapping[str, Any], record: Record) -> None:
    """Writes the file, in place of one that is there, and returns when it would survive a power cut.

    Raises:
        NotDurableError: the file is in place, but its folder could not be fsynced.
        OSError: it cannot be written; nothing has changed.
    """
    records = {RECORD_NAME: encode_record(record)}
    get_engine().sync(make_parents(os.path.dirname(path)))
    staged = StagedDirectory(path)
    try:
        save_with_records(dict(contents), path, records, temporary=staged.create_path("file"))
    finally:
        staged.discard()


def read_file(path: str, options: Mapping[str, Any]) -> Any:
    """Loads the file with options of `torch.load`. All checksums are compared, unless torch itself has to read it.

    Raises:
        CorruptionError: the file is damaged.
        UnsafeObjectError: `weights_only`, which is the default, refuses an object in it.
        OSError: it cannot be read.
    """
    if options.get("mmap") is None or not options["mmap"]:
        options = {name: value for name, value in options.items() if name != "mmap"}
    if options.keys() <= _OWN_OPTIONS:
        return load(path, **options)
    return load_by_torch(path, **options)

"""Removing checkpoints, and what dead writers have left.

A file goes in one step. A snapshot is renamed to a hidden name first, the kind of name that a snapshot has while it is
written: what a crash leaves of either is a leftover of the same kind, and the next removal takes it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import uuid
from contextlib import suppress

from sucrose.scenarios.checkpoint_names import CheckpointNames
from sucrose.storage.leases import lease_for_removal

logger = logging.getLogger(__name__)


def remove(path: str) -> None:
    """Removes a checkpoint, unless somebody reads it just now. No error is raised: the next removal tries again."""
    try:
        if os.path.isdir(path):
            _remove_snapshot(path)
        else:
            with suppress(FileNotFoundError):
                os.unlink(path)
    except OSError as error:
        logger.warning("%s is kept no longer, but cannot be removed: %s", path, error)


def remove_leftovers(names: CheckpointNames) -> None:
    """Removes the hidden folders of a scenario's writers that have died."""
    stem = re.escape(f"{names.stem}_{names.epoch_prefix}")
    leftover = re.compile(rf"\.{stem}[0-9]+(\.mid)?{re.escape(names.extension)}\.tmp-[0-9a-f]{{32}}")
    with suppress(FileNotFoundError), os.scandir(names.folder) as entries:
        found = [
            entry.path for entry in entries if leftover.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        ]
        for path in found:
            try:
                _remove_leftover(path)
            except OSError as error:
                logger.warning("%s was left by a program that has died, but cannot be removed: %s", path, error)


def _remove_snapshot(path: str) -> None:
    lease = lease_for_removal(path)
    if lease is None:
        return
    with lease:
        folder, name = os.path.split(path)
        hidden = os.path.join(folder, f".{name}.tmp-{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            os.rename(path, hidden)
            shutil.rmtree(hidden)


def _remove_leftover(path: str) -> None:
    lease = lease_for_removal(path)
    if lease is None:  # its writer lives, or another process removes it
        return
    with lease:
        if lease.is_held:  # else this file system has no locks, and its writer may live
            with suppress(FileNotFoundError):
                shutil.rmtree(path)

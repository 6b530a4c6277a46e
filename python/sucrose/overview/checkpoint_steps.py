"""The number of steps in a checkpoint that has no record of it, because `torch.save` wrote it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

_logger = logging.getLogger(__name__)


def read_step(path: str, step_key: str) -> int | None:
    """What is under `step_key`; None where nothing is, or where only unpickling any object would tell.

    Imports torch. Tensors are not read: a file of any size takes moments.
    """
    from sucrose.snapshot.single_file import load

    try:
        contents = load(path, map_location="meta")
    except Exception as error:  # noqa: BLE001  # torch raises anything, and one strange file must not hide the others
        _logger.info("%s does not tell its step: %s", path, error)
        return None
    step = contents.get(step_key) if isinstance(contents, Mapping) else None
    return step if isinstance(step, int) and not isinstance(step, bool) else None

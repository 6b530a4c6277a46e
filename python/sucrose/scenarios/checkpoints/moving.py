"""Checkpoints that are moved out of the way. Nothing deletes them but the user.

Damaged ones go to ``quarantine/``, each with a file ``<name>.reason`` beside it; those of a branch that the program
has left go to ``superseded-<n>/``. All of it lies in the folder of the checkpoints, and every move is one rename.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress

from sucrose.engine import get_engine

logger = logging.getLogger(__name__)

_QUARANTINE = "quarantine"
_SUPERSEDED = "superseded-"


def quarantine(path: str, reason: str) -> None:
    """Moves a damaged checkpoint to quarantine, and says so in the log.

    Where that is impossible only the log says so.
    """
    folder, name = os.path.split(path)
    target = os.path.join(folder, _QUARANTINE, name)
    try:
        os.makedirs(os.path.join(folder, _QUARANTINE), exist_ok=True)
        number = 1
        while os.path.lexists(target):
            number += 1
            target = os.path.join(folder, _QUARANTINE, f"{name}.{number}")
        os.rename(path, target)
    except FileNotFoundError:  # somebody else was faster
        return
    except OSError as error:
        logger.warning("%s is damaged and passed over: %s. It cannot be moved to quarantine: %s", path, reason, error)
        return
    with suppress(OSError), open(f"{target}.reason", "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{reason}\n")
    logger.warning("%s is damaged and was moved to %s: %s", path, target, reason)


def set_aside(paths: Sequence[str], *, why: str) -> None:
    """Moves checkpoints of one folder, in this order, to a new folder in it; returns when that is durable.

    Raises:
        OSError: one of them cannot be moved. Those before it have been.
    """
    folder = os.path.dirname(paths[0])
    target = _new_folder(folder)
    for path in paths:
        with suppress(FileNotFoundError):
            os.rename(path, os.path.join(target, os.path.basename(path)))
    get_engine().sync([target, folder])
    names = ", ".join(os.path.basename(path) for path in paths)
    logger.warning("%s: %s moved to %s", why, names, target)


def _new_folder(folder: str) -> str:
    number = 1
    while True:
        target = os.path.join(folder, f"{_SUPERSEDED}{number}")
        try:
            os.mkdir(target)
        except FileExistsError:
            number += 1
        else:
            return target

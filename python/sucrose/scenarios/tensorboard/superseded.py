"""Folders ``superseded-<n>`` with the pieces that were cut off event files: no torch, no tensorboard.

A piece has the path of its file, with ``superseded`` for ``tfevents`` so that TensorBoard does not load it, and ends
with ``.from-<offset>`` where it is not the whole file.
"""

from __future__ import annotations

import os
import shutil

from sucrose.scenarios.tensorboard.log_folder import SUPERSEDED

_BLOCK_NBYTES = 1 << 20


def new_superseded_folder(log_dir: str) -> str:
    """Makes one, with the lowest number above all that are there."""
    number = max(_numbers(log_dir), default=0)
    while True:
        number += 1
        path = os.path.join(log_dir, f"superseded-{number}")
        try:
            os.mkdir(path)
        except FileExistsError:  # another process was faster
            continue
        return path


def copy_tail(log_dir: str, path: str, offset: int, superseded: str) -> str:
    """Copies what lies behind an offset, and has it survive a power cut; its folder has to be synced, too.

    Args:
        log_dir: the run's folder.
        path: of the event file, relative to that.
        offset: where the piece begins.
        superseded: where to.

    Returns:
        The path of the piece.

    Raises:
        OSError: there is no room for it, or the like.
    """
    target = os.path.join(superseded, _piece_of(path) + (f".from-{offset}" if offset else ""))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(os.path.join(log_dir, path), "rb") as source, open(target, "xb") as copy:
        source.seek(offset)
        shutil.copyfileobj(source, copy, _BLOCK_NBYTES)
        copy.flush()
        os.fsync(copy.fileno())
    return target


def bring_back(log_dir: str, path: str, nbytes: int) -> int:
    """Appends from pieces what an event file lacks.

    Args:
        log_dir: the run's folder.
        path: of the event file, relative to that.
        nbytes: how long it was.

    Returns:
        How long it is now, which is less where there is no piece that fits.
    """
    full_path = os.path.join(log_dir, path)
    has_nbytes = os.stat(full_path).st_size
    while has_nbytes < nbytes and (found := _piece_with(log_dir, path, has_nbytes)):
        piece, offset = found
        with open(piece, "rb") as source, open(full_path, "ab") as file:
            source.seek(has_nbytes - offset)
            while has_nbytes < nbytes and (block := source.read(min(_BLOCK_NBYTES, nbytes - has_nbytes))):
                has_nbytes += file.write(block)
        sync(full_path)
    return has_nbytes


def sync(path: str) -> None:
    """Has a file, or the names in a folder, survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _piece_with(log_dir: str, path: str, at: int) -> tuple[str, int] | None:
    """A piece of the file with the byte at an offset, and the offset at which it begins."""
    for number in _numbers(log_dir):
        folder, name = os.path.split(os.path.join(log_dir, f"superseded-{number}", _piece_of(path)))
        for candidate in os.listdir(folder) if os.path.isdir(folder) else ():
            rest = candidate.removeprefix(name)
            if rest == candidate:
                continue
            begins = rest.removeprefix(".from-") if rest else "0"
            piece = os.path.join(folder, candidate)
            if begins.isdecimal() and int(begins) <= at < int(begins) + os.stat(piece).st_size:
                return piece, int(begins)
    return None


def _piece_of(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, name.replace("tfevents", "superseded"))


def _numbers(log_dir: str) -> list[int]:
    matches = (SUPERSEDED.fullmatch(name) for name in os.listdir(log_dir))
    return sorted(int(match[1]) for match in matches if match)

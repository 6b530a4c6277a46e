"""File systems that a test mounts for itself, where the system lets it; else the test is skipped, with the reason."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MIB = 1 << 20


@contextmanager
def tmpfs(folder: Path, *, nbytes: int = 16 * MIB, options: str = "") -> Iterator[Path]:
    """A file system in memory at `folder`, with room for `nbytes`."""
    folder.mkdir(exist_ok=True)
    size = f"size={nbytes},{options}".rstrip(",")
    with _mounted(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], folder):
        yield folder


@contextmanager
def disk_image(folder: Path, kind: str, *, nbytes: int) -> Iterator[Path]:
    """A file system of a `kind` that has a ``mkfs``, in a file beside `folder`."""
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not installed")
    folder.mkdir()
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(nbytes)
    subprocess.run([f"mkfs.{kind}", *(["-q"] if kind != "vfat" else []), str(image)], check=True, capture_output=True)
    with _mounted(["mount", "-o", "loop", str(image), str(folder)], folder):
        yield folder


@contextmanager
def overlayfs(folder: Path) -> Iterator[Path]:
    """Layers as in a container's file system, upper and lower one in memory."""
    with tmpfs(folder):
        parts = {name: folder / name for name in ("lower", "upper", "work", "merged")}
        for part in parts.values():
            part.mkdir()
        layers = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
        with _mounted(["mount", "-t", "overlay", "overlay", "-o", layers, str(parts["merged"])], parts["merged"]):
            yield parts["merged"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The mounted file system at `folder` can only be read."""
    _mount(["mount", "-o", "remount,ro", str(folder)])
    try:
        yield
    finally:
        _mount(["mount", "-o", "remount,rw", str(folder)])


@contextmanager
def _mounted(command: Sequence[str], folder: Path) -> Iterator[None]:
    _mount(command)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(command: Sequence[str]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount file systems")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this system does not let us mount: {done.stderr.strip()}")

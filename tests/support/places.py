"""A folder in a directory or in an object store, for tests that say the same of both."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from sucrose.storage import is_url
from sucrose.storage.objects.shared import shared_storage


class Place:
    """Files below a folder, looked at and changed behind everybody's back.

    Attributes:
        root: path or URL.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def files(self) -> dict[str, bytes]:
        """Contents of all files, hidden ones too."""
        if is_url(self.root):
            storage = shared_storage(self.root)
            return {file.name: storage.read(file.name) for file in storage.list()}
        folder = Path(self.root)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def write(self, name: str, data: bytes) -> None:
        """Creates or replaces a file."""
        if is_url(self.root):
            shared_storage(self.root).put(name, data)
            return
        path = Path(self.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def remove(self, name: str) -> None:
        """Removes a file."""
        if is_url(self.root):
            shared_storage(self.root).delete([name])
        else:
            os.unlink(os.path.join(self.root, name))

    def flip(self, ending: str, below: str = "") -> None:
        """Changes the last byte of the one file whose name begins and ends so."""
        [(name, data)] = [
            (name, data) for name, data in self.files().items() if name.startswith(below) and name.endswith(ending)
        ]
        self.write(name, data[:-1] + bytes([data[-1] ^ 1]))


def in_memory() -> Place:
    """An object store of this process that nobody else has."""
    return Place(f"memory://{uuid.uuid4().hex}/some/folder")

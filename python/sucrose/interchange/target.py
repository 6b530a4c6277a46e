"""Where a conversion writes to, and how."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sucrose.config.plain_values import error_line
from sucrose.errors import ConfigError, SucroseError
from sucrose.interchange.kinds import Kind, recognize

if TYPE_CHECKING:
    from sucrose.compression import Compression


VALUE_KEY = "value"
"""What a value is called that is no dict, in a kind that holds dicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is to be written.

    Attributes:
        path: absolute.
        kind: of the checkpoint.
        key: what a snapshot calls the whole of a state, where that is not to be one stateful for each of its dicts.
        separator: between keys, in names of a kind without nesting.
        compression: of a snapshot.
        overwrite: replace a checkpoint that is there.
    """

    path: str
    kind: Kind
    key: str | None = None
    separator: str = "/"
    compression: Compression | str | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Refuses what could only fail later, before anything is read.

        Raises:
            FileExistsError: something is at the path, and is not to be replaced or is no checkpoint of this shape.
            FileNotFoundError: the folder of a file is missing.
            ConfigError: an option that this kind does not have.
        """
        if self.compression is not None and self.kind is not Kind.SNAPSHOT:
            raise ConfigError(f"only snapshots are compressed, and the target is {self.kind.words}")
        if not self.separator:
            raise ConfigError("the separator between keys is empty: names could not be told apart")
        parent = os.path.dirname(self.path)
        if not os.path.isdir(parent):
            raise FileNotFoundError(errno.ENOENT, "there is no such folder to write to", parent)
        if not os.path.lexists(self.path):
            return
        if not self.overwrite:
            raise FileExistsError(
                errno.EEXIST, "something is here already; --overwrite replaces a checkpoint", self.path
            )
        try:
            found = recognize(self.path)
        except (SucroseError, OSError) as error:
            raise FileExistsError(
                errno.EEXIST,
                f"what is here is no checkpoint, so it is not overwritten ({error_line(error)})",
                self.path,
            ) from error
        if (found in _FOLDERS) != (self.kind in _FOLDERS) or (self.kind in _FOLDERS and found is not self.kind):
            raise FileExistsError(
                errno.EEXIST, f"{found.words} is here, which {self.kind.words} cannot take the place of", self.path
            )


_FOLDERS = frozenset({Kind.SNAPSHOT, Kind.DCP})

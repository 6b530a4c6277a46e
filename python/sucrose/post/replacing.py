"""A new file in the place of an old one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MAX_NAME_CHARACTERS = 50  # of the target's name in the temporary one; file systems allow 255 bytes


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Gives a path to write to, beside `path`; at the end it takes the place of `path`, in one step.

    After an error nothing at `path` has changed, and what was written is gone.

    Raises:
        OSError: it cannot be put into its place.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "report.html")
        >>> with replacing(path) as temporary, open(temporary, "w") as file:
        ...     _ = file.write("new")
        >>> open(path).read()
        'new'
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name[:_MAX_NAME_CHARACTERS]}.tmp-{secrets.token_hex(8)}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno and error.filename == temporary:
            raise type(error)(error.errno, error.strerror, path) from error  # nobody knows of the temporary one
        raise

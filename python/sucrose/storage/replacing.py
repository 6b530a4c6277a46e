"""One small file in the place of another, so that readers and crashes find the old one or the new one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress


def replace_file(path: str, data: bytes, sync: Callable[[Sequence[str]], None]) -> None:
    """Writes the file beside its place, and moves it there; durable when this returns.

    Args:
        path: the file, which need not be there yet.
        data: its new contents.
        sync: fsyncs paths.

    Raises:
        OSError: it could not be written, and the old one is in place; or the folder could not be fsynced.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name.lstrip('.')}.tmp-{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        sync([temporary])
        os.replace(temporary, path)
    except OSError as error:
        error.filename = path  # unknown to write, and nobody knows the temporary one
        raise
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    sync([folder])

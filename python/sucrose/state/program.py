"""Where a program's states are kept when nobody has said where."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence

from sucrose.errors import ConfigError
from sucrose.state.settings import CHECKPOINT_CONFIG

_MAX_NAME = 60  # characters


def default_root(arguments: Sequence[str] = ()) -> str:
    """A directory of this program's own, the same each time that it is started.

    It lies below ``$XDG_STATE_HOME``, by default ``~/.local/state``, and depends on the path of the
    program's main file; for a program without one, such as ``python -c``, on the working directory.
    Source: XDG Base Directory Specification 0.8.

    Args:
        arguments: what else tells runs of the program apart.

    Raises:
        ConfigError: this user has no home directory.
    """
    state_home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state_home):  # the specification says to ignore such a value
        state_home = os.path.expanduser("~/.local/state")
    if not os.path.isabs(state_home):
        raise ConfigError(
            f"there is no home directory to keep states in: HOME={os.environ.get('HOME')!r}, user {os.getuid()}. Set "
            f"{CHECKPOINT_CONFIG}='root=...' to a directory"
        )
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    path = os.path.realpath(file) if file else os.path.realpath(os.getcwd()) + os.sep
    stem = os.path.splitext(os.path.basename(path))[0] or "interactive"
    if stem == "__main__":  # python -m package
        stem = os.path.basename(os.path.dirname(path))
    name = re.sub(r"[^\w.-]", "_", stem)[:_MAX_NAME]
    identity = hashlib.sha256("\0".join([path, *arguments]).encode(errors="surrogateescape")).hexdigest()[:16]
    return os.path.join(state_home, "torch-sucrose", f"{name}-{identity}")

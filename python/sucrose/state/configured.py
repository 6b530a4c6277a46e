"""The settings and the checkpoints of this process, both made when they are first needed."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache

from sucrose.errors import ConfigError
from sucrose.state.checkpoints import Checkpoints
from sucrose.state.program import default_root
from sucrose.state.settings import CHECKPOINT_CONFIG, CHECKPOINT_TYPE, Settings
from sucrose.state.workers import NoCheckpoints, is_worker

logger = logging.getLogger(__name__)


@cache
def configured_settings() -> Settings:
    """What the environment says, read once.

    Raises:
        ConfigError: a variable is malformed.
    """
    settings = Settings.from_environment(os.environ)
    _set_loglevel(settings.loglevel)
    if settings.without_effect:
        logger.warning(
            "%s: without effect with %s=%s and periodic saving %s: %s",
            CHECKPOINT_CONFIG,
            CHECKPOINT_TYPE,
            settings.type,
            "enabled" if settings.periodic_saving else "disabled",
            ", ".join(settings.without_effect),
        )
    return settings


@cache
def configured_checkpoints() -> Checkpoints:
    """The place that the settings choose, opened once.

    Raises:
        ConfigError: the settings are malformed, or name what this release does not have.
        PermissionError: the directory cannot be read and written.
    """
    settings = configured_settings()
    if is_worker():
        return NoCheckpoints()
    if settings.type == "remote":
        from sucrose.state.remote import RemoteCheckpoints

        return RemoteCheckpoints.from_settings(settings)
    if settings.type == "s3" or "://" in (settings.root or "").replace("file://", "").replace("fs://", ""):
        raise ConfigError(
            f"{CHECKPOINT_TYPE}={settings.type}, root={settings.root}: this release keeps states in local directories "
            f"and on Redis-protocol servers only; use {CHECKPOINT_TYPE}=local or remote"
        )
    from sucrose.state.local import LocalCheckpoints

    if settings.root is not None:
        return LocalCheckpoints(settings.root, keep_last=settings.keep_last)
    # A script that knows nothing of its state is run with other arguments to train something else.
    root = default_root(sys.argv[1:] if settings.autopatch else ())
    logger.warning(
        "states of this program are kept in %s; %s='root=...' chooses another place", root, CHECKPOINT_CONFIG
    )
    return LocalCheckpoints(root, keep_last=settings.keep_last)


def _set_loglevel(level: int | None) -> None:
    """Applies to the loggers of this package only; seen on stderr where the program has no handlers."""
    if level is None:
        return
    ours = logging.getLogger("sucrose")
    ours.setLevel(level)
    if not ours.hasHandlers():
        handler = logging.StreamHandler()
        handler.addFilter(lambda _: not logging.getLogger().handlers)  # the program has set its own up since
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        ours.addHandler(handler)

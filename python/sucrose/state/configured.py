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
from sucrose.storage import is_url

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
        PermissionError: the directory, or the folder in an object store, cannot be read and written.
    """
    settings = configured_settings()
    if is_worker():
        return NoCheckpoints()
    if settings.type == "remote":
        from sucrose.state.remote import RemoteCheckpoints

        return RemoteCheckpoints.from_settings(settings)
    if settings.type == "s3":
        from sucrose.state.object_store import ObjectStoreCheckpoints

        return ObjectStoreCheckpoints(_url_of_states(settings.root), keep_last=settings.keep_last)
    if settings.root is not None and is_url(settings.root):
        raise ConfigError(
            f"{CHECKPOINT_TYPE}=local, {CHECKPOINT_CONFIG}='root={settings.root}': that is a URL of an object store, "
            f"of any kind; set {CHECKPOINT_TYPE}=s3"
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


def _url_of_states(root: str | None) -> str:
    """Where states go that are kept in an object store.

    Raises:
        ConfigError: that is not said, or is a path.
    """
    how = f"{CHECKPOINT_CONFIG}='root=s3://BUCKET/PATH', or the URL of a folder in another object store"
    if root is None:
        raise ConfigError(f"{CHECKPOINT_TYPE}=s3 needs {how}: nothing says where the states are to be kept")
    if not is_url(root):
        raise ConfigError(
            f"{CHECKPOINT_TYPE}=s3, {CHECKPOINT_CONFIG}='root={root}': that is a path, expected {how}; for directories "
            f"there is {CHECKPOINT_TYPE}=local"
        )
    return root


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

"""What happens when a run goes on with another configuration than it was begun with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sucrose.config import differences
from sucrose.errors import ConfigError

logger = logging.getLogger(__name__)


def check_config_change(saved: Mapping[str, Any], now: Mapping[str, Any], *, policy: str, path: str) -> None:
    """Tells field by field what has changed since a checkpoint.

    Args:
        saved: the resolved configuration in the checkpoint.
        now: that of the scenario.
        policy: ``ignore``, ``warn`` or ``refuse``.
        path: of the checkpoint.

    Raises:
        ConfigError: something has changed, and the policy refuses that.
    """
    if policy == "ignore":
        return
    changes = differences(saved, now)
    if not changes:
        return
    lines = "".join(f"\n  {change}" for change in changes)
    if policy == "refuse":
        raise ConfigError(
            f"the configuration is not that of {path}, and on_config_change is 'refuse':{lines}\n"
            "Set the fields back, or begin another scenario.",
            path=path,
        )
    logger.warning(
        "the configuration has changed since %s:%s\n"
        "It counts for what the program makes of it. What the checkpoint holds comes from there, such as the learning "
        "rate in an optimizer's state",
        path,
        lines,
    )

"""The functions of the module, which act on the current scenario."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sucrose.scenarios.current import exchange_current, get_current_scenario
from sucrose.scenarios.scenario import NOTHING, Scenario

if TYPE_CHECKING:
    from sucrose.scenarios.epochs import EpochRange
    from sucrose.scenarios.tensorboard import ScenarioWriter


def scenario(work_dir: str | os.PathLike[str], name: str | None = None, overrides: Sequence[str] = ()) -> Scenario:
    """Starts a scenario and makes it the current one of this thread.

    Args:
        work_dir: the workspace, a folder with a ``config.yaml``.
        name: of a domain in it, such as ``base/case1``; may be left out under ``sucrose run``.
        overrides: ``field=value``, over what the file says.

    Raises:
        FileNotFoundError: there is no ``config.yaml``.
        ConfigError: it cannot be understood, or an override cannot.
        ValueError: the name is none.

    Example:
        >>> import sucrose, os
        >>> os.makedirs("/tmp/workspace", exist_ok=True)
        >>> _ = open("/tmp/workspace/config.yaml", "w").write("base: {optim.lr: 0.1}")
        >>> sucrose.scenario("/tmp/workspace", "base", ["optim.lr=1e-3"])["optim.lr"]
        0.001
    """
    started = Scenario(work_dir, name, overrides)
    exchange_current(started)
    return started


start_project = scenario
"""The same."""


def step(n: int = 1) -> None:
    """`Scenario.step` of the current scenario."""
    get_current_scenario().step(n)


def get_current_step() -> int:
    """`Scenario.num_steps` of the current scenario."""
    return get_current_scenario().num_steps


def find_last_epoch() -> int:
    """`Scenario.find_last_epoch` of the current scenario."""
    return get_current_scenario().find_last_epoch()


def epoch_range(n: int | None = None, *, until: int | None = None) -> EpochRange:
    """`Scenario.epoch_range` of the current scenario."""
    return get_current_scenario().epoch_range(n, until=until)


def partial(func: Callable[..., Any], prefix: str) -> functools.partial[Any]:
    """`Scenario.partial` of the current scenario."""
    return get_current_scenario().partial(func, prefix)


def track(**objects: Any) -> Any:
    """`Scenario.track` of the current scenario."""
    return get_current_scenario().track(**objects)


def load_state_dict(
    epoch: int | Literal["best"] | None = None,
    *,
    load_step: bool = True,
    load_random: bool = True,
    loader_kwds: Mapping[str, Any] = NOTHING,
    **objects: Any,
) -> dict[str, Any]:
    """`Scenario.load_state_dict` of the current scenario."""
    return get_current_scenario().load_state_dict(
        epoch, load_step=load_step, load_random=load_random, loader_kwds=loader_kwds, **objects
    )


def save_state_dict(interval: int = 1, *, save_step: bool = True, **objects: Any) -> None:
    """`Scenario.save_state_dict` of the current scenario."""
    get_current_scenario().save_state_dict(interval, save_step=save_step, **objects)


def start_pytorch_tensorboard(**kw: Any) -> ScenarioWriter:
    """`Scenario.start_pytorch_tensorboard` of the current scenario."""
    return get_current_scenario().start_pytorch_tensorboard(**kw)


def log(metrics: Mapping[str, Any], step: int | None = None) -> None:
    """`Scenario.log` of the current scenario."""
    get_current_scenario().log(metrics, step)

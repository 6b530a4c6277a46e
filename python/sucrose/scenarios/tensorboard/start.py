"""How a scenario comes to its writer. Imports torch and tensorboard only when it makes one."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sucrose.scenarios.tensorboard.writer import ScenarioWriter


def start_writer(
    log_dir: str,
    /,
    *,
    step: int | None = None,
    positions: Mapping[str, int] | None = None,
    found: Collection[str] | None = None,
    config: Mapping[str, Any] | None = None,
    writes: bool = True,
    **kw: Any,
) -> ScenarioWriter:
    """A `torch.utils.tensorboard.SummaryWriter` whose curves fit to a checkpoint.

    Args:
        log_dir: the run's folder; it is made where it is missing.
        step: the global step of the checkpoint that was loaded; None where none was, and what is there stays.
        positions: what `ScenarioWriter.positions` said when that checkpoint was saved. What was logged after it is
            set aside; with an empty mapping that is everything. None where the checkpoint has none: then
            TensorBoard hides what comes after `step`.
        found: the event files that there were when the run was started, relative to `log_dir`. Others are of writers
            that the program has made itself, and are not set aside. None for all that there are.
        config: the default hyperparameters of `ScenarioWriter.add_hparams`, by field.
        writes: False makes a writer that accepts every call, writes nothing and makes no folder.
        **kw: keywords of `SummaryWriter`. With its `purge_step` TensorBoard hides what that says, and nothing is
            set aside. An event is in its file when the call that logs it returns, so `max_queue` and `flush_secs`
            change nothing.

    Raises:
        ImportError: there is no tensorboard.
        TypeError: a keyword that `SummaryWriter` does not have, or `log_dir`.
        OSError: the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> from sucrose.scenarios.tensorboard import start_writer
        >>> writer = start_writer(tempfile.mkdtemp(), config={"optim.lr": 0.1})
        >>> writer.add_scalar("loss", 0.5, 1)
        >>> [*writer.positions().values()]  # bytes
        [82]
        >>> writer.close()
    """
    if "log_dir" in kw:
        raise TypeError(
            f"log_dir={kw['log_dir']!r} was given, but the logs of this run are in {log_dir!r}. Say where logs go with "
            "'logs_folder' in the domain 'workspace', or make a torch.utils.tensorboard.SummaryWriter of your own"
        )
    try:
        importlib.import_module("torch.utils.tensorboard")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "tensorboard":
            raise
        raise ImportError(
            "curves need the package tensorboard, which is not installed: pip install tensorboard",
            name="tensorboard",
        ) from error
    from sucrose.scenarios.tensorboard.silent_writer import SilentWriter
    from sucrose.scenarios.tensorboard.writer import ScenarioWriter

    kind = ScenarioWriter if writes else SilentWriter
    return kind(log_dir, step=step, positions=positions, found=found, config=config or {}, **kw)

"""Logged scalars as a data frame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sucrose.post.extra import require
from sucrose.scenarios.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from sucrose.post.series import Series


class LogDataFrame:
    """Reads what runs of a workspace have logged to TensorBoard.

    Args:
        work_dir: the workspace. It needs no ``config.yaml``.
        runs: names such as ``base/case1``, as TensorBoard shows them, or shell patterns such as ``base/*``; None for
            all. `add_scalars` makes runs of its own, such as ``base/case1/loss_train``.
        tags: names or patterns of scalars; None for all.
        attempts: whether what a resume went back behind counts as runs, too, such as ``base/case1/superseded-1``.

    Example:
        >>> import tempfile
        >>> from torch.utils.tensorboard import SummaryWriter
        >>> from sucrose.post import LogDataFrame
        >>> workspace = tempfile.mkdtemp()
        >>> with SummaryWriter(f"{workspace}/logs/base/case1") as writer:
        ...     writer.add_scalar("loss", 0.5, 1)
        ...     writer.add_scalar("loss", 0.25, 2)
        >>> df = LogDataFrame(workspace, runs=["base/*"], tags=["loss"]).load()
        >>> df["value"].to_dict()
        {1: 0.5, 2: 0.25}
    """

    def __init__(
        self,
        work_dir: str | os.PathLike[str],
        runs: str | Sequence[str] | None = None,
        tags: str | Sequence[str] | None = None,
        *,
        attempts: bool = False,
    ) -> None:
        self._workspace = Workspace.open(work_dir, needs_config=False)
        self._runs = [runs] if isinstance(runs, str) else runs
        self._tags = [tags] if isinstance(tags, str) else tags
        self._attempts = attempts

    def load(self) -> pd.DataFrame:
        """Reads the files as they are now.

        Returns:
            One row for each run, tag and step: index `step`; columns `value`, `wall_time` (seconds since 1970), `run`
            and `tag` (categories), sorted by run, tag and step. Where attempts overlap the newest one is there.

        Raises:
            ConfigError: one of the runs or tags is not there.
            ImportError: pandas is not installed.
            OSError: an event file cannot be read.
        """
        require("pandas")
        from sucrose.post.scalars import read_scalars

        logs_dir = os.path.join(self._workspace.work_dir, self._workspace.logs_folder)
        return data_frame(read_scalars(logs_dir, self._runs, self._tags, attempts=self._attempts))


def data_frame(scalars: dict[tuple[str, str], Series]) -> pd.DataFrame:
    """Curves by run and tag as one frame, as `LogDataFrame.load` returns it."""
    import pandas as pd

    counts = [len(series) for series in scalars.values()]
    columns: dict[str, object] = {}
    for name, dtype in (("value", np.float64), ("wall_time", np.float64)):
        arrays = [getattr(series, f"{name}s") for series in scalars.values()]
        columns[name] = np.concatenate([np.empty(0, dtype), *arrays])
    for position, name in enumerate(("run", "tag")):
        labels = [key[position] for key in scalars]
        categories = sorted(set(labels))
        codes = np.repeat(np.array([categories.index(label) for label in labels], np.int64), counts)
        columns[name] = pd.Categorical.from_codes(codes, pd.Index(categories, dtype=object))
    steps = np.concatenate([np.empty(0, np.int64), *(series.steps for series in scalars.values())])
    frame: pd.DataFrame = pd.DataFrame(columns, index=pd.Index(steps, name="step"), copy=False)
    return frame

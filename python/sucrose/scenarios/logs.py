"""What a scenario logs: the newest values of its metrics, and curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sucrose.scenarios.metrics import Metrics
from sucrose.scenarios.tensorboard.log_folder import sizes

if TYPE_CHECKING:
    from sucrose.scenarios.record import Record
    from sucrose.scenarios.tensorboard import ScenarioWriter


class ScenarioLogs:
    """The logs of one run. For one thread.

    Args:
        folder: where event files lie.
        config: the resolved configuration, which is the default of `add_hparams`.
        writes: False on ranks that leave writing to another.
        is_new: the scenario has no checkpoint: what is logged there will be logged again.
    """

    def __init__(self, folder: str, config: Mapping[str, Any], *, writes: bool, is_new: bool) -> None:
        self.folder = folder
        self._config = config
        self._writes = writes
        self._metrics = Metrics()
        self._writer: ScenarioWriter | None = None
        self._step: int | None = 0 if is_new else None
        self._positions: Mapping[str, int] | None = {} if is_new else None

    @property
    def newest(self) -> Mapping[str, float]:
        """The newest value of each metric."""
        return self._metrics.newest

    def resume(self, record: Record | None, step: int) -> None:
        """A checkpoint was loaded: curves go on at `step`. Before the writer is started."""
        self._step = step
        self._positions = None
        if record is not None:
            self._positions = record.logs
            self._metrics.restore(record.metrics)
        if self._writer is not None:
            self._writer.resume(step=step, positions=self._positions)

    def start(self, **kw: Any) -> ScenarioWriter:
        """The writer, which is made when it is first asked for."""
        if self._writer is None:
            from sucrose.scenarios.tensorboard import start_writer

            self._writer = start_writer(
                self.folder,
                step=self._step,
                positions=self._positions,
                config=self._config,
                writes=self._writes,
                **kw,
            )
        return self._writer

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Notes values, and writes them."""
        self._metrics.log(metrics, step, self.start())

    def positions(self) -> Mapping[str, int]:
        """How much of each event file belongs to the run up to here. Everything is flushed."""
        if self._writer is None:  # of earlier attempts, and of a program's own writers
            return sizes(self.folder) if self._writes else {}
        return self._writer.positions()

    def close(self) -> None:
        """Ends the writer. A second call does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

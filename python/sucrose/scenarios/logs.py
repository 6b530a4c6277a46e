"""What a scenario logs: the newest values of its metrics, and curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sucrose.scenarios.metrics import Metrics
from sucrose.scenarios.ranks import rank
from sucrose.scenarios.tensorboard.log_folder import sizes

if TYPE_CHECKING:
    from sucrose.scenarios.record import Record
    from sucrose.scenarios.tensorboard import ScenarioWriter


class ScenarioLogs:
    """The logs of one run. For one thread.

    Args:
        folder: where event files lie.
        config: the resolved configuration, which is the default of `add_hparams`.
        is_new: the scenario has no checkpoint: what is logged there will be logged again.
    """

    def __init__(self, folder: str, config: Mapping[str, Any], *, is_new: bool) -> None:
        self.folder = folder
        self._config = config
        self._metrics = Metrics()
        self._writer: ScenarioWriter | None = None
        self._step: int | None = 0 if is_new else None
        self._positions: Mapping[str, int] | None = {} if is_new else None
        self._goes_back_later = False
        self._found = frozenset(sizes(folder))
        """Event files of earlier attempts."""

    @property
    def newest(self) -> Mapping[str, float]:
        """The newest value of each metric in this epoch."""
        return self._metrics.newest

    def begin_epoch(self) -> None:
        """What was measured up to here belongs to the epoch before."""
        self._metrics.begin_epoch()

    def resume(self, record: Record | None, step: int, *, is_newest: bool) -> None:
        """A checkpoint was loaded: curves go on at `step`.

        Args:
            record: of the checkpoint.
            step: number of steps made there.
            is_newest: False where the program has asked for an earlier one. It may only want to look: curves go back
                there with `go_on`.
        """
        self._step = step
        self._positions = None
        self._metrics.begin_epoch()
        if record is not None:
            self._positions = record.logs
            if record.is_mid_epoch:
                self._metrics.restore(record.metrics)
        self._goes_back_later = True
        if is_newest:
            self.go_on()

    def go_on(self) -> None:
        """The run goes on from the checkpoint that was loaded."""
        if self._goes_back_later:
            self._goes_back_later = False
            if self._writer is not None:
                self._writer.resume(step=self._step, positions=self._positions)

    def start(self, **kw: Any) -> ScenarioWriter:
        """The writer, which is made when it is first asked for."""
        if self._writer is None:
            from sucrose.scenarios.tensorboard import start_writer

            self._writer = start_writer(
                self.folder,
                step=None if self._goes_back_later else self._step,
                positions=None if self._goes_back_later else self._positions,
                found=self._found,
                config=self._config,
                writes=rank() == 0,
                **kw,
            )
        return self._writer

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Notes values, and writes them."""
        self._metrics.log(metrics, step, self.start())

    def positions(self) -> Mapping[str, int]:
        """How much of each event file belongs to the run up to here. Everything is flushed."""
        if self._writer is None:  # of earlier attempts, and of a program's own writers
            return sizes(self.folder) if rank() == 0 else {}
        return self._writer.positions()

    def close(self) -> None:
        """Ends the writer. A second call does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

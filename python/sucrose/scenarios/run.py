"""How far a scenario has come: epochs, steps, the objects of its checkpoints, and what was loaded or is due."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from sucrose.data_order import RandomStates, TrackedLoader, track_loader
from sucrose.scenarios import leaving
from sucrose.scenarios.checkpoints import CheckpointFolder
from sucrose.scenarios.config_change import check_config_change
from sucrose.scenarios.objects import OWN_KEY, check_names, states_of
from sucrose.scenarios.ranks import rank
from sucrose.scenarios.record import Record
from sucrose.scenarios.resuming import Resumption, is_loader
from sucrose.scenarios.saving import EpochSaving

if TYPE_CHECKING:
    from sucrose.config import Config
    from sucrose.scenarios.logs import ScenarioLogs
    from sucrose.scenarios.workspace import Workspace

logger = logging.getLogger(__name__)


class Run:
    """One scenario in one process. For one thread, and for signal handlers in it.

    Args:
        workspace: where things lie.
        config: of the scenario, which each checkpoint stores.
        logs: whose positions and metrics each checkpoint stores.
    """

    def __init__(self, workspace: Workspace, config: Config, logs: ScenarioLogs) -> None:
        names = workspace.checkpoint_names(config.name)
        self.where = names.folder
        self.epoch = names.newest()
        """Epochs that are finished."""
        self.step = 0
        self._workspace = workspace
        self._config = config
        self._logs = logs
        self._folder = CheckpointFolder(names, workspace.keep)
        writes = names.are_snapshots or rank() == 0
        self._saving = EpochSaving(self._folder, holds=workspace.hold_epochs, writes=writes)
        self._unwritten = 0
        """Epochs since the last one that was written because its interval said so."""
        self._objects: dict[str, Any] | None = None
        """Those of the newest save, or before the first save of the newest load; None: the program has said none."""
        self._tracked: dict[str, Any] = {}
        self._resumption: Resumption | None = None
        self._is_at_boundary = False
        self._is_over = False
        self._has_saved = False
        self._written_at = time.monotonic()
        self._save_s = 0.0

    def track(self, name: str, value: Any) -> Any:
        """`Scenario.track` of one object."""
        check_names([name], self._reserved)
        tracked = value
        if is_loader(value):
            tracked = track_loader(value, lambda: self._at_boundary(name))
            leaving.use_boundaries()
        if self._resumption is not None:
            self._resumption.claim(name, tracked)
        self._tracked[name] = tracked
        return tracked.loader if isinstance(tracked, TrackedLoader) else value

    def load(
        self,
        epoch: int | Literal["best"] | None,
        objects: Mapping[str, Any],
        loader_kwds: Mapping[str, Any],
        *,
        load_step: bool,
        load_random: bool,
    ) -> dict[str, Any]:
        """`Scenario.load_state_dict`."""
        check_names(objects, self._reserved)
        self._folder.wait()
        loaded = self._folder.read(epoch, loader_kwds=loader_kwds)
        if loaded is None:
            self._objects = dict(objects)
            logger.warning(
                "%r has no checkpoint in %s yet: it begins with its first epoch", self._config.name, self.where
            )
            return {}
        if loaded.record is not None:
            policy = self._workspace.on_config_change
            check_config_change(loaded.record.config, self._config.resolved(), policy=policy, path=loaded.path)
        self._resumption, left = Resumption.begin(loaded, objects, self._tracked, loads_random=load_random)
        if load_step and self._workspace.step_key in left:
            self.step = int(left.pop(self._workspace.step_key))
        self.epoch = loaded.epoch
        self._unwritten = 0
        self._objects = dict(objects)
        self._saving.go_back_to(None if epoch is None else loaded.epoch)
        self._logs.resume(loaded.record, self.step)
        logger.info("%r goes on after epoch %d and step %d: %s", self._config.name, self.epoch, self.step, loaded.path)
        return left

    def begin_epochs(self) -> None:
        """The first epoch of a loop begins."""
        if self._resumption is not None:
            self._resumption.begin_epochs()

    def finish_epoch(self, interval: int, objects: Mapping[str, Any], *, save_step: bool) -> None:
        """`Scenario.save_state_dict`."""
        check_names(objects, self._reserved)
        is_due = self._unwritten + 1 >= interval
        began = time.monotonic()
        for loader in self.loaders:
            loader.finish_epoch()
        record = self._record(self.epoch + 1, is_mid_epoch=False)
        self._saving.finish(self._contents(objects, save_step=save_step), record, is_due=is_due)
        if is_due:
            self._note_write(began)
        self._objects = dict(objects)
        self._has_saved = True
        self.epoch += 1
        self._unwritten = 0 if is_due else self._unwritten + 1
        leaving.at_boundary()

    def save_mid_epoch(self, objects: Mapping[str, Any], *, save_step: bool) -> None:
        """`Scenario.save_mid_epoch`."""
        check_names(objects, self._reserved)
        began = time.monotonic()
        record = self._record(self.epoch, is_mid_epoch=True)
        self._saving.write_mid_epoch(self._contents(objects or self._objects or {}, save_step=save_step), record)
        self._note_write(began)

    def leave(self) -> None:
        """Writes what is due before the end. Also in the middle of anything here, in a signal handler."""
        self._saving.leave()
        if self._is_at_boundary and self._objects is not None:
            self.save_mid_epoch({}, save_step=True)
        self._saving.wait()

    def expected_s(self) -> float:
        """How long that takes, in seconds; 0.0 where it is not known."""
        return self._save_s

    def end(self) -> None:
        """Nothing is saved from here on."""
        self._is_over = True

    @property
    def has_saved(self) -> bool:
        """Whether an epoch was finished here."""
        return self._has_saved

    def _at_boundary(self, name: str) -> None:
        """A tracked loader is about to be asked for a batch, and the one before was used.

        Where a pass of the epoch is over, or about to be, only the end of the epoch will do: a run that was resumed
        here would have a loop without a batch, and programs use what their loops have computed.
        """
        interval_s = self._workspace.mid_epoch_interval_s
        is_due = interval_s is not None and time.monotonic() - self._written_at >= interval_s
        if self._is_over or not (is_due or leaving.is_called_off()):
            return
        if self._objects is None:  # nothing is ever loaded
            leaving.at_boundary()
            return
        loader = self._tracked[name]
        if not loader.has_batches_left() or any(one.completed for one in self.loaders):
            return
        self._is_at_boundary = True
        try:
            leaving.at_boundary()
            self.save_mid_epoch({}, save_step=True)
        finally:
            self._is_at_boundary = False

    @property
    def loaders(self) -> list[TrackedLoader]:
        """Those that are tracked."""
        return [value for value in self._tracked.values() if isinstance(value, TrackedLoader)]

    @property
    def _reserved(self) -> tuple[str, str]:
        return OWN_KEY, self._workspace.step_key

    def _contents(self, objects: Mapping[str, Any], *, save_step: bool) -> dict[str, Any]:
        random = RandomStates.capture({})
        contents = states_of({**self._tracked, **objects})
        if save_step:
            contents[self._workspace.step_key] = self.step
        contents[OWN_KEY] = {"random": random.to_state(), "tracked": sorted(self._tracked)}
        return contents

    def _record(self, epoch: int, *, is_mid_epoch: bool) -> Record:
        return Record(
            epoch=epoch,
            step=self.step,
            is_mid_epoch=is_mid_epoch,
            saved_ns=time.time_ns(),
            config=self._config.resolved(),
            overrides=self._config.overrides,
            metrics=self._logs.newest,
            logs=self._logs.positions(),
        )

    def _note_write(self, began: float) -> None:
        self._written_at = time.monotonic()
        self._save_s = self._written_at - began

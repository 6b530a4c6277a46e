"""How far a scenario has come: epochs, steps, the objects of its checkpoints, and what was loaded or is due."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from sucrose.data_order import RandomStates, TrackedLoader, track_loader
from sucrose.errors import RankError
from sucrose.scenarios import leaving
from sucrose.scenarios.agreed_boundaries import AgreedBoundaries
from sucrose.scenarios.boundaries import Boundaries
from sucrose.scenarios.checkpoints import CheckpointFolder
from sucrose.scenarios.config_change import check_config_change
from sucrose.scenarios.loadable import LoadableCheck
from sucrose.scenarios.objects import OWN_KEY, check_names, has_state, states_of
from sucrose.scenarios.ranks import RunRanks, Together, agree_on, any_rank, rank, shown_alive
from sucrose.scenarios.record import Record
from sucrose.scenarios.replicated import Replicated, find_replicated
from sucrose.scenarios.resuming import Resumption, check_epoch, is_loader, step_in
from sucrose.scenarios.saving import EpochSaving
from sucrose.scenarios.sharded import refuse_in_files, sharded_among

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
        ranks: those of the job.
        epoch: epochs that are finished.
    """

    def __init__(self, workspace: Workspace, config: Config, logs: ScenarioLogs, ranks: RunRanks, epoch: int) -> None:
        names = workspace.checkpoint_names(config.name)
        self.where = names.folder
        self.epoch = epoch
        """Epochs that are finished."""
        self.step = 0
        self._workspace = workspace
        self._config = config
        self._logs = logs
        self._ranks = ranks
        self._folder = CheckpointFolder(names, workspace.keep)
        self._saving = EpochSaving(self._folder, holds=workspace.hold_epochs, ranks=ranks)
        self._check = LoadableCheck()
        self._boundaries = Boundaries()
        self._agreed: AgreedBoundaries | None = None
        """On several ranks, from the first boundary on."""
        self._unwritten = 0
        """Epochs since the last one that was written because its interval said so."""
        self._objects: dict[str, Any] | None = None
        """Those of the newest save, or before the first save of all loads; None: the program has said none."""
        self._tracked: dict[str, Any] = {}
        self._resumption: Resumption | None = None
        self._is_at_boundary = False
        self._is_over = False
        self._has_loaded = False
        self._has_saved = False
        self._written_at = time.monotonic()
        self._answered = leaving.warnings()
        """Of the warnings, those after which a checkpoint was written."""
        self._save_s = 0.0

    def track(self, name: str, value: Any) -> Any:
        """`Scenario.track` of one object."""
        check_names([name], self._reserved)
        tracked = self._tracked_as(value)
        if not (has_state(value) or is_loader(value)):
            raise TypeError(
                f"{name}={type(value).__name__} cannot be tracked: expected a data loader, or an object with "
                "state_dict and load_state_dict. Other values are saved by save_state_dict"
            )
        if tracked is value and is_loader(value):
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
        with self._ranks.together("loading a checkpoint") as together:
            check_epoch(epoch)
            check_names(objects, self._reserved)
            agree_on(together.exchange, {"epoch": epoch})
            left = self._load(epoch, objects, loader_kwds, together, load_step=load_step, load_random=load_random)
            together.exchange.agree("all have loaded")
        return left

    def _load(
        self,
        epoch: int | Literal["best"] | None,
        objects: Mapping[str, Any],
        loader_kwds: Mapping[str, Any],
        together: Together,
        *,
        load_step: bool,
        load_random: bool,
    ) -> dict[str, Any]:
        objects = {name: self._tracked_as(value) for name, value in objects.items()}
        self._saving.leave(together)  # epochs that have ended are among those to choose from
        self._has_loaded = True
        self._check.is_off = loader_kwds.get("weights_only", True) is False
        sharded = sharded_among({**self._tracked, **objects}) if self._saving.is_by_all else {}
        loaded = self._folder.read(epoch, loader_kwds=loader_kwds, together=together, in_place=sharded)
        if loaded is None:
            self._objects = {**(self._objects or {}), **objects}
            logger.warning(
                "%r has no checkpoint in %s yet: it begins with its first epoch", self._config.name, self.where
            )
            return {}
        if loaded.record is not None and together.exchange.rank == 0:
            policy = self._workspace.on_config_change
            check_config_change(loaded.record.config, self._config.resolved(), policy=policy, path=loaded.path)
        step = step_in(loaded, self._workspace.step_key) if load_step else None
        self._resumption, left = Resumption.begin(
            loaded,
            {name: value for name, value in objects.items() if name not in sharded},
            self._tracked,
            without=self._reserved,
            loads_random=load_random,
            before_first=lambda: together.exchange.agree("all objects fit"),
        )
        if step is not None:
            self.step = step
            del left[self._workspace.step_key]
        self.epoch = loaded.epoch
        self._unwritten = 0
        self._objects = {**(self._objects or {}), **objects}
        self._boundaries.begin_epoch()
        self._saving.go_back_to(None if epoch is None else loaded.epoch)
        self._logs.resume(loaded.record, self.step, is_newest=epoch is None)
        logger.info("%r goes on after epoch %d and step %d: %s", self._config.name, self.epoch, self.step, loaded.path)
        return left

    def begin_epochs(self) -> None:
        """The first epoch of a loop begins."""
        self._boundaries.begin_loop(self.epoch)
        self._logs.go_on()
        if self._resumption is not None:
            self._resumption.begin_epochs()
        else:  # passes before the loop, such as those of an evaluation, are not the epoch's
            self._finish_passes()

    def end_epochs(self) -> None:
        """The loop is over, or was left."""
        self._boundaries.end_loop(self.epoch)

    def finish_epoch(self, interval: int, objects: Mapping[str, Any], *, save_step: bool) -> None:
        """`Scenario.save_state_dict`."""
        began = time.monotonic()
        is_its_turn = self._unwritten + 1 >= interval
        with self._ranks.together("finishing an epoch") as together:
            check_names(objects, self._reserved)
            self._warn_of_checkpoints_that_were_not_loaded()
            self._logs.go_on()
            self._finish_passes()
            record = self._record(self.epoch + 1, is_mid_epoch=False)
            contents = self._contents(objects, save_step=save_step)
            agree_on(together.exchange, {"epoch": record.epoch, "interval": interval})
            is_due = any_rank(
                together.exchange,
                "an epoch that is due",
                flag=is_its_turn or leaving.warnings() != self._answered or self._saving.is_better(record),
            )
            stops = any_rank(together.exchange, "a rank that has to stop", flag=leaving.is_called_off())
            replicated = self._replicated(objects, contents)
            self._saving.finish(contents, record, is_due=is_due, together=together, replicated=replicated)
        if is_due:
            self._note_write(began)
        self._objects = dict(objects)
        self._resumption = None
        self._has_saved = True
        self.epoch += 1
        self._unwritten = 0 if is_its_turn else self._unwritten + 1
        self._logs.begin_epoch()
        self._boundaries.begin_epoch()
        if stops:
            leaving.stop_at_boundary()
        elif not (self._ranks.are_several and leaving.is_called_off()):  # it came since: the next is one of all
            leaving.at_boundary()

    def save_mid_epoch(self, objects: Mapping[str, Any], *, save_step: bool) -> None:
        """`Scenario.save_mid_epoch`."""
        with self._ranks.together("saving in the middle of an epoch") as together:
            agree_on(together.exchange, {"finished epochs": self.epoch})
            self._save_mid_epoch(objects, together, save_step=save_step)

    def _save_mid_epoch(self, objects: Mapping[str, Any], together: Together, *, save_step: bool) -> None:
        check_names(objects, self._reserved)
        began = time.monotonic()
        self._logs.go_on()
        record = self._record(self.epoch, is_mid_epoch=True)
        objects = objects or self._known_objects()
        contents = self._contents(objects, save_step=save_step)
        replicated = self._replicated(objects, contents)
        self._saving.write_mid_epoch(contents, record, together=together, replicated=replicated)
        self._note_write(began)

    def leave(self) -> None:
        """Writes what is due before the end. Also in the middle of anything here, in a signal handler."""
        self._saving.leave()
        if self._is_at_boundary and self._objects is not None:
            self._save_mid_epoch_here()
        self._saving.wait()

    def close(self) -> None:
        """The same on all ranks in one call, after which nothing is saved."""
        with self._ranks.together("closing a scenario") as together:
            self._saving.leave(together)
            with shown_alive(together.exchange):
                self._saving.wait()
            together.exchange.agree("all is written")
        self.end()

    def expected_s(self) -> float:
        """How long that takes, in seconds; 0.0 where it is not known."""
        return self._save_s

    def end(self) -> None:
        """Nothing is saved from here on."""
        self._is_over = True
        self._folder.close()

    @property
    def has_saved(self) -> bool:
        """Whether an epoch was finished here."""
        return self._has_saved

    def _at_boundary(self, name: str) -> None:
        """A tracked loader is about to be asked for a batch, and the one before was used.

        Where a pass of the epoch is over, or about to be, only the end of the epoch will do: a run that was resumed
        here would have a loop without a batch, and programs use what their loops have computed.
        """
        is_exact = self._boundaries.reach(name, self.step)
        if self._is_over or not self._is_wanted():
            return
        if self._boundaries.is_in_loop is False or self._objects is None or self._plain_values() is None:
            self._stop_if_told()  # there is nothing to be saved in the middle of
            return
        if not is_exact or any(one.completed for one in self.loaders):
            return
        with self._tracked[name].looking_ahead() as has_batches_left:
            if not has_batches_left:
                return
            self._is_at_boundary = True
            try:
                self._stop_if_told()
                self._save_by_the_clock()
            finally:
                self._is_at_boundary = False

    def _is_wanted(self) -> bool:
        """Whether there is something to be done at this boundary, or one after it; on all of several ranks alike."""
        is_due, must_stop = self._is_due(), leaving.is_called_off()
        if not self._ranks.are_several:
            return is_due or must_stop
        if self._agreed is None:
            self._agreed = AgreedBoundaries(self._ranks)
        self._agreed.reach(wants_to_save=is_due, has_to_stop=must_stop)
        return self._agreed.saves or self._agreed.stops

    def _stop_if_told(self) -> None:
        if self._agreed is None:
            leaving.at_boundary()
        elif self._agreed.stops:
            leaving.stop_at_boundary()

    def _is_due(self) -> bool:
        """Rank 0's clock counts, and a warning signal of any rank."""
        if leaving.warnings() != self._answered:
            return True
        interval_s = self._workspace.mid_epoch_interval_s
        return interval_s is not None and rank() == 0 and time.monotonic() - self._written_at >= interval_s

    def _save_by_the_clock(self) -> None:
        """The program has not asked for it, and does not end by an error of it."""
        try:
            self._save_mid_epoch_here()
        except Exception as error:
            is_lost = isinstance(error, RankError) and not error.error_type
            if is_lost or self._folder.names.are_snapshots:  # it may be that of an epoch, in the background
                raise
            if self._agreed is not None:
                self._agreed.has_saved()  # no rank has; all try again
            self._written_at = time.monotonic()
            logger.warning(
                "no checkpoint in the middle of epoch %d could be written to %s, those before it are untouched; it is "
                "tried again later. %s: %s",
                self.epoch + 1,
                self.where,
                type(error).__name__,
                error,
            )

    def _save_mid_epoch_here(self) -> None:
        """At a boundary, which is one of all ranks."""
        self.save_mid_epoch({}, save_step=True)
        if self._agreed is not None:
            self._agreed.has_saved()

    def _replicated(self, objects: Mapping[str, Any], contents: Mapping[str, Any]) -> Replicated | None:
        """Where ranks write together, what they have alike."""
        if not self._saving.is_by_all:
            if self._ranks.are_several:
                refuse_in_files(sharded_among({**self._tracked, **objects}))
            return None
        own = {name for name, value in self._tracked.items() if isinstance(value, TrackedLoader)}
        return find_replicated({**self._tracked, **objects}, contents, own, self._workspace.replicated)

    def _known_objects(self) -> dict[str, Any]:
        values = self._plain_values()
        names_none = self._objects is None and len(self._tracked) == len(self.loaders)
        if values is None or names_none:
            raise ValueError(
                "which objects? The program has not saved all of them here before: name them, as for save_state_dict"
            )
        return {**values, **(self._objects or {})}

    def _plain_values(self) -> dict[str, Any] | None:
        """See `Resumption.plain_values`."""
        if self._resumption is None:
            return {}
        return self._resumption.plain_values({**self._tracked, **(self._objects or {})})

    def _finish_passes(self) -> None:
        for loader in self.loaders:
            loader.finish_epoch()

    def _warn_of_checkpoints_that_were_not_loaded(self) -> None:
        if self.epoch and not self._has_loaded and not self._has_saved:
            logger.warning(
                "%r has checkpoints of %d epochs in %s, and this program has loaded none: it calls what it has made "
                "epoch %d. Call load_state_dict before the first epoch, or begin another scenario",
                self._config.name,
                self.epoch,
                self.where,
                self.epoch + 1,
            )

    @property
    def loaders(self) -> list[TrackedLoader]:
        """Those that are tracked."""
        return [value for value in self._tracked.values() if isinstance(value, TrackedLoader)]

    @property
    def _reserved(self) -> tuple[str, str]:
        return OWN_KEY, self._workspace.step_key

    def _contents(self, objects: Mapping[str, Any], *, save_step: bool) -> dict[str, Any]:
        random = RandomStates.capture({})
        given = {name: self._tracked_as(value) for name, value in objects.items()}
        contents = states_of({**self._tracked, **given})
        if save_step:
            contents[self._workspace.step_key] = self.step
        sharded = sharded_among({**self._tracked, **given})
        self._check.look_at({name: value for name, value in contents.items() if name not in sharded}, self.where)
        contents[OWN_KEY] = {
            "random": random.to_state(),
            "tracked": sorted(self._tracked),
            "in_loop": self._boundaries.is_in_loop is True,
        }
        return contents

    def _tracked_as(self, value: Any) -> Any:
        """A loader that is tracked is stored by its place, under whatever name the program gives it."""
        return next((loader for loader in self.loaders if loader.loader is value), value)

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
        self._answered = leaving.warnings()
        self._save_s = self._written_at - began

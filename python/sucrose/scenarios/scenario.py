"""One experiment: its configuration, its checkpoints, its logs, and how far it has come."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from sucrose.config import Config
from sucrose.scenarios import leaving
from sucrose.scenarios.current import exchange_current
from sucrose.scenarios.epochs import EpochRange
from sucrose.scenarios.logs import ScenarioLogs
from sucrose.scenarios.opened import close_open, forget_open, note_open
from sucrose.scenarios.ranks import RunRanks, number_of_rank_0
from sucrose.scenarios.run import Run
from sucrose.scenarios.starting import agree_on_start, check_length, chosen_name, tell_of_missing_domain
from sucrose.scenarios.workspace import Workspace

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from sucrose.config import Explanation, UnusedField
    from sucrose.scenarios.tensorboard import ScenarioWriter

logger = logging.getLogger(__name__)

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Scenario:
    """An experiment of a workspace. `sucrose.scenario` makes one and lets the module's functions act on it.

    Used as a context manager it is the current one inside, and closed at the end. For one thread.

    Args:
        work_dir: the workspace, a folder with a ``config.yaml``.
        name: of a domain in it, such as ``base/case1``. ``sucrose run`` names another one.
        overrides: ``field=value``, over what the file says; those of `SUCROSE_OVERRIDES` come on top.

    Attributes:
        name: as above.
        workspace: where things lie.
        config: the resolved fields.
        epoch: epochs that are finished.

    Raises:
        FileNotFoundError: there is no ``config.yaml``.
        ConfigError: it cannot be understood, or an override cannot.
        ValueError: the name is none, or too long for names of files.

    Example:
        >>> import sucrose, os
        >>> os.makedirs("/tmp/workspace", exist_ok=True)
        >>> _ = open("/tmp/workspace/config.yaml", "w").write("base: {optim.lr: 0.1}")
        >>> with sucrose.Scenario("/tmp/workspace", "base") as ssc:
        ...     ssc["optim.lr"]
        0.1
    """

    def __init__(
        self, work_dir: str | os.PathLike[str], name: str | None = None, overrides: Sequence[str] = ()
    ) -> None:
        self._ranks = RunRanks()
        with self._ranks.together("starting a scenario") as together:
            self.workspace = Workspace.open(work_dir)
            self.name = chosen_name(name)
            self.config = Config(self.workspace.config, self.name, overrides)
            self.where = self.workspace.ckpts_dir(self.name)
            """The folder of the checkpoints."""
            names = self.workspace.checkpoint_names(self.name)
            check_length(names, self.name)
            epoch = agree_on_start(together.exchange, self.workspace, self.config, lambda: close_open(self.where))
            self._logs = ScenarioLogs(
                self.workspace.logs_dir(self.name),
                self.config.resolved(),
                is_new=not names.epochs() and not names.mid_epochs(),
            )
            self._run = Run(self.workspace, self.config, self._logs, self._ranks, epoch)
        self._is_closed = False
        self._before: list[Scenario | None] = []
        tell_of_missing_domain(self.workspace.config, self.name)
        note_open(self.where, self)
        leaving.on_leaving(self)

    # Configuration

    def __getitem__(self, field: str) -> Any:
        return self.config[field]

    def get_config(self, field: str, default: Any = None) -> Any:
        """The value of a field; `default` where no domain has it."""
        return self.config.get(field, default)

    def partial(self, func: Callable[..., Any], prefix: str) -> functools.partial[Any]:
        """Binds the fields below `prefix` to the keywords of `func`; see `Config.partial`."""
        return self.config.partial(func, prefix)

    def build(self, cls: type[Any], prefix: str) -> Any:
        """A dataclass made of the fields below `prefix`, with their types checked; see `Config.build`."""
        return self.config.build(cls, prefix)

    def check(self, schema: Mapping[str, Callable[..., Any]], *, given: Iterable[str] = ()) -> None:
        """Checks the fields below several prefixes against what will be called with them; see `Config.check`.

        Args:
            schema: a dataclass, class or function by the prefix of its fields.
            given: parameters that the program passes itself, such as ``optim.params``.

        Raises:
            ConfigError: some do not fit; it names all of them.
        """
        self.config.check(schema, given=given)

    def explain(self, field: str) -> Explanation:
        """Where the value of a field comes from."""
        return self.config.explain(field)

    def unused(self) -> list[UnusedField]:
        """Fields that nothing has asked for up to here."""
        return self.config.unused()

    # Epochs and steps

    @property
    def epoch(self) -> int:
        """Epochs that are finished."""
        return self._run.epoch

    @property
    def num_steps(self) -> int:
        """Steps made, of all runs together. Set by an int only."""
        return self._run.step

    @num_steps.setter
    def num_steps(self, number: int) -> None:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"num_steps is a whole number, not {number!r}")
        if number < 0:
            raise ValueError(f"num_steps={number}: there is no such number of steps")
        self._run.step = number

    num_stes = num_steps
    """The same, as one document spells it."""

    def step(self, n: int = 1) -> None:
        """Counts `n` more steps; to be called after ``optimizer.step()``."""
        self.num_steps += n
        self._logs.go_on()

    def epoch_range(self, n: int | None = None, *, until: int | None = None) -> EpochRange:
        """The numbers of the next epochs, counted from 1.

        Args:
            n: so many.
            until: up to that one, instead of `n`: a run that was interrupted makes what is left.

        Example:
            >>> import sucrose, os
            >>> os.makedirs("/tmp/workspace", exist_ok=True)
            >>> _ = open("/tmp/workspace/config.yaml", "w").write("base: {optim.lr: 0.1}")
            >>> list(sucrose.scenario("/tmp/workspace", "base").epoch_range(3))
            [1, 2, 3]
        """
        if (n is None) == (until is None):
            raise TypeError("epoch_range takes either a number of epochs or `until`, the last of them")
        last = until if until is not None else self.epoch + (n or 0)
        return EpochRange(range(self.epoch + 1, last + 1), self._run.begin_epochs, self._run.end_epochs)

    def find_last_epoch(self) -> int:
        """The number of epochs in the newest checkpoint's name; 0 where there is none. Several ranks: rank 0's."""
        with self._ranks.together("finding the last epoch") as together:
            newest = self.workspace.checkpoint_names(self.name).newest() if together.exchange.rank == 0 else 0
            return number_of_rank_0(together.exchange, "last epoch", newest)

    # Checkpoints

    def track(self, **objects: Any) -> Any:
        """Stores these with every checkpoint from here on, without naming them again, and loads them.

        Of a `DataLoader`, or another loader with a state, checkpoints hold the place: the run goes on with the
        very next batch, in the same order. Checkpoints can then be written in the middle of an epoch. A
        checkpoint that was loaded before gives these objects their states now.

        Returns:
            The object, or a tuple of several. Loaders may be used as before or as returned, it is the same.

        Raises:
            ValueError: a name means something else in checkpoints.
            StateMismatchError: the state that was loaded does not fit.
        """
        self._check_open()
        tracked = tuple(self._run.track(name, value) for name, value in objects.items())
        return tracked[0] if len(tracked) == 1 else tracked

    @property
    def skipped_batches(self) -> int:
        """Batches that a resumed epoch does not deliver again: ``enumerate(loader, ssc.skipped_batches)``.

        Of the tracked loader that has used most; 0 in an epoch that begins with its first batch.
        """
        return max((loader.skipped for loader in self._run.loaders), default=0)

    def load_state_dict(
        self,
        epoch: int | Literal["best"] | None = None,
        *,
        load_step: bool = True,
        load_random: bool = True,
        loader_kwds: Mapping[str, Any] = NOTHING,
        **objects: Any,
    ) -> dict[str, Any]:
        """Loads the newest checkpoint into objects; without one, a warning is logged and nothing changes.

        Args:
            epoch: after so many epochs, or ``"best"`` by `keep.best`, instead of the newest.
            load_step: set `num_steps`, too.
            load_random: set the random number generators, too.
            loader_kwds: keywords of `torch.load`; `weights_only` is true unless said otherwise.
            **objects: by the names they were saved under; each has a `load_state_dict`. All are checked before the
                first one changes.

        Returns:
            What else the checkpoint holds; an empty dict where there is none.

        Raises:
            FileNotFoundError: there is no checkpoint of that epoch.
            CorruptionError: it is damaged.
            StateMismatchError: it holds no such object, or a state that does not fit.
            ConfigError: the configuration has changed, and `on_config_change` is ``refuse``.
            UnsafeObjectError: it holds more than tensors and plain values.
        """
        self._check_open()
        return self._run.load(epoch, objects, loader_kwds, load_step=load_step, load_random=load_random)

    def save_state_dict(self, interval: int = 1, *, save_step: bool = True, **objects: Any) -> None:
        """Finishes an epoch. Every `interval`-th call writes a checkpoint named by the number of epochs.

        Epochs in between are written when the scenario is left: closed, or the program ends. Returns when the
        file would survive a power cut; with the extension ``.snapshot``, when the program may change its objects.

        Args:
            interval: so many epochs to a file.
            save_step: store `num_steps` as well.
            **objects: what has `state_dict` and `load_state_dict` is stored by its state, all else as it is.

        Raises:
            ValueError: the interval is below 1, or a name means something else in checkpoints.
            OSError: the file cannot be written. The epoch does not count as finished then.
        """
        self._check_open()
        self._run.finish_epoch(_checked_interval(interval), objects, save_step=save_step)

    def save_mid_epoch(self, *, save_step: bool = True, **objects: Any) -> None:
        """Writes a checkpoint in the middle of an epoch, which is not finished by that.

        To be called at the end of the loop's body, with loaders tracked. Only the newest of these is kept, until the
        epoch has a checkpoint of its own.

        Args:
            save_step: store `num_steps` as well.
            **objects: as for `save_state_dict`; without any, those of the newest save.

        Raises:
            ValueError: a name means something else in checkpoints.
            OSError: the file cannot be written.
        """
        self._check_open()
        self._run.save_mid_epoch(objects, save_step=save_step)

    # Logs

    @property
    def log_dir(self) -> str:
        """The folder of the logs."""
        return self._logs.folder

    def start_pytorch_tensorboard(self, **kw: Any) -> ScenarioWriter:
        """A `torch.utils.tensorboard.SummaryWriter` on `log_dir`; the one there is, if it was started before.

        After a resume, curves go on where the checkpoint was written: what an earlier attempt has logged after
        that no longer shows.

        Args:
            **kw: keywords of `SummaryWriter`.
        """
        self._check_open()
        return self._logs.start(**kw)

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Notes the newest values of metrics, for `keep.best` and ``sucrose runs``, and logs them to TensorBoard.

        Args:
            metrics: numbers by name; names of nested mappings are joined with ``/``.
            step: that they belong to; `num_steps` unless given.

        Raises:
            TypeError: a value is no number.
        """
        self._check_open()
        self._logs.log(metrics, self.num_steps if step is None else step)

    # The end

    def close(self) -> None:
        """Writes the epochs that their interval has not written yet, and ends the logs. A second call does nothing.

        Fields of the configuration that nothing has used are named in a warning then.

        Raises:
            OSError: an epoch cannot be written.
        """
        if self._is_closed:
            return
        self._run.close()
        self._has_closed()

    def _has_closed(self) -> None:
        self._is_closed = True
        leaving.has_left(self)
        forget_open(self.where, self)
        self.end_logs()

    def end_logs(self) -> None:
        """What there is to say at the end is said; for `close`, and the end of the program."""
        self._logs.close()
        lines = "".join(f"\n  {field}" for field in self.unused()) if self._run.has_saved else ""
        if lines:
            logger.warning("scenario %r has fields without an effect:%s", self.name, lines)

    def __enter__(self) -> Self:
        self._before.append(exchange_current(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        exchange_current(self._before.pop())
        if error is None or self._is_closed:
            self.close()
        else:  # the other ranks may be elsewhere
            self._run.leave()
            self._run.end()
            self._has_closed()

    def __repr__(self) -> str:
        return f"<scenario {self.name!r} of {self.workspace.work_dir}: {self.epoch} epochs, {self.num_steps} steps>"

    def save_before_end(self, *, at_boundary: bool) -> None:  # noqa: ARG002 - of another scenario, perhaps
        """For the end of the program."""
        self._run.leave()

    def expected_s(self) -> float:
        """How long that takes, in seconds; 0.0 where it is not known."""
        return self._run.expected_s()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(f"scenario {self.name!r} is closed: start it again")


def _checked_interval(interval: object) -> int:
    if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
        raise ValueError(f"interval={interval!r}: expected a whole number from 1")
    return interval

"""A folder with a ``config.yaml``, and what its domain `workspace` says about where things lie.

| field | default | meaning |
| --- | --- | --- |
| `ckpts_folder` | `ckpts` | checkpoints, below the workspace, or where an absolute path leads |
| `logs_folder` | `logs` | logs, likewise |
| `epoch_prefix` | `e` | stands before the number in the names of checkpoints |
| `ckpts_extension` | `.pt` | ends them; `.snapshot`: snapshots, written in the background |
| `step_key` | `step` | names the number of steps in a checkpoint |
| `keep.last` | all | of the checkpoints the newest so many are kept |
| `keep.every` |  | and those of every so many epochs |
| `keep.best.metric`, `.mode`, `.k` | , `min`, 1 | and the best, by a metric |
| `hold_epochs` | true | keep a copy of an epoch's end until its file is written, so that leaving can write it |
| `on_config_change` | `warn` | a resume with another configuration: `warn`, `ignore` or `refuse` |
| `mid_epoch_interval_s` |  | seconds between checkpoints in the middle of an epoch |
| `replicated` | none | globs of what all ranks have alike, besides DDP modules and their optimizers |
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sucrose.catalog.retention import Retention
from sucrose.config import ConfigFile, read_config_file
from sucrose.config.suggestions import nearest
from sucrose.errors import ConfigError
from sucrose.scenarios.checkpoint_names import CheckpointNames, stem_of
from sucrose.storage import local_path

_NAMES = ("ckpts_folder", "logs_folder", "epoch_prefix", "ckpts_extension", "step_key")
_KEEP_ALL = Retention()
_POLICIES = ("warn", "ignore", "refuse")
_KEEP = ("keep.last", "keep.every", "keep.best.metric", "keep.best.mode", "keep.best.k")
_FIELDS = (*_NAMES, "hold_epochs", "on_config_change", "mid_epoch_interval_s", "replicated", *_KEEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """What the table above lists, and the parsed file."""

    work_dir: str
    config: ConfigFile
    ckpts_folder: str = "ckpts"
    logs_folder: str = "logs"
    epoch_prefix: str = "e"
    ckpts_extension: str = ".pt"
    step_key: str = "step"
    keep: Retention = _KEEP_ALL
    hold_epochs: bool = True
    on_config_change: str = "warn"
    mid_epoch_interval_s: float | None = None
    replicated: tuple[str, ...] = ()

    @classmethod
    def open(cls, work_dir: str | os.PathLike[str], *, needs_config: bool = True) -> Workspace:
        """Reads ``<work_dir>/config.yaml``.

        Args:
            work_dir: the folder.
            needs_config: without it, a folder that has no such file counts as one with an empty file.

        Raises:
            FileNotFoundError: there is no such file.
            ConfigError: its content is not what it should be, or `work_dir` is the URL of an object store.
        """
        folder = os.path.abspath(os.path.expanduser(local_path(work_dir)))
        try:
            config = read_config_file(folder)
        except FileNotFoundError:
            if needs_config or not os.path.isdir(folder):
                raise
            config = ConfigFile(path=os.path.join(folder, "config.yaml"), domains={})
        return cls(work_dir=folder, config=config, **_settings(config))

    def ckpts_dir(self, name: str) -> str:
        """Where a scenario's checkpoints lie."""
        return os.path.join(self.work_dir, self.ckpts_folder, name)

    def logs_dir(self, name: str) -> str:
        """Where a scenario's logs lie."""
        return os.path.join(self.work_dir, self.logs_folder, name)

    def checkpoint_names(self, name: str) -> CheckpointNames:
        """How a scenario's checkpoints are named."""
        return CheckpointNames(self.ckpts_dir(name), stem_of(name), self.epoch_prefix, self.ckpts_extension)

    def scenario_names(self) -> list[str]:
        """Scenarios that have a domain, or checkpoints or logs on the disk, sorted.

        Folders of logs below those of another run belong to it, as writers make one for each curve of `add_scalars`.
        """
        names = set(self.config.domains) - {"workspace"}
        names.update(name for name in _folders_below(self._top(self.ckpts_folder)) if self._has_checkpoints(name))
        logged = [name for name in _folders_below(self._top(self.logs_folder)) if _has_logs(self.logs_dir(name))]
        names.update(name for name in logged if not any(name.startswith(f"{other}/") for other in logged))
        return sorted(names)

    def _top(self, folder: str) -> str:
        return os.path.join(self.work_dir, folder)

    def _has_checkpoints(self, name: str) -> bool:
        checkpoints = self.checkpoint_names(name)
        try:
            return bool(checkpoints.epochs() or checkpoints.mid_epochs())
        except OSError:  # there is something, and who asks for it is told why it cannot be read
            return True


def _folders_below(top: str) -> Iterator[str]:
    """Names of all folders below `top`, but those that hold what was set aside, or are a checkpoint themselves."""
    for folder, subfolders, _ in os.walk(top):
        subfolders[:] = [name for name in subfolders if not _is_none(name)]
        for subfolder in subfolders:
            yield os.path.relpath(os.path.join(folder, subfolder), top)


def _is_none(folder: str) -> bool:
    return folder.startswith((".", "superseded-")) or folder == "quarantine" or folder.endswith(".snapshot")


def _has_logs(folder: str) -> bool:
    try:
        return any("tfevents" in name for name in os.listdir(folder))
    except OSError:  # removed meanwhile, or not to be read
        return False


def _settings(config: ConfigFile) -> dict[str, Any]:
    given = config.workspace()
    for field in given:
        if field not in _FIELDS:
            near = nearest(field, _FIELDS)
            hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(_FIELDS)}"
            raise ConfigError(f"{config.path}: the domain 'workspace' has a field {field!r}; {hint}", path=config.path)
    settings: dict[str, Any] = {}
    try:
        for field in _NAMES:
            if field in given:
                settings[field] = _name(field, given[field])
        if "hold_epochs" in given:
            settings["hold_epochs"] = _truth("hold_epochs", given["hold_epochs"])
        if "on_config_change" in given:
            settings["on_config_change"] = _policy(given["on_config_change"])
        if "mid_epoch_interval_s" in given:
            settings["mid_epoch_interval_s"] = _seconds(given["mid_epoch_interval_s"])
        if "replicated" in given:
            settings["replicated"] = _globs(given["replicated"])
        settings["keep"] = _retention(given)
    except ConfigError as error:
        raise ConfigError(f"{config.path}, domain 'workspace': {error}", path=config.path) from None
    return settings


def _name(field: str, value: object) -> str:
    is_text = isinstance(value, str) and "\0" not in value
    if is_text and field in ("ckpts_folder", "logs_folder"):
        value = os.path.expanduser(str(value))
        is_text = value not in ("", ".") and ".." not in str(value).split("/")
    elif is_text and field == "step_key":
        is_text = value not in ("", "sucrose")
    elif is_text:
        is_text = "/" not in str(value) and (field == "epoch_prefix" or len(str(value)) > 1)
    if field == "ckpts_extension" and not (is_text and str(value).startswith(".")):
        raise ConfigError(f"ckpts_extension is {value!r}, expected one with its dot, such as '.pt' or '.snapshot'")
    if not is_text:
        raise ConfigError(f"{field} is {value!r}, which names nothing inside of the workspace")
    return str(value)


def _truth(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{field} is {value!r}, expected true or false")
    return value


def _policy(value: object) -> str:
    if value not in _POLICIES:
        raise ConfigError(f"on_config_change is {value!r}, expected one of {', '.join(_POLICIES)}")
    return str(value)


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigError(f"mid_epoch_interval_s is {value!r}, expected a number of seconds above 0")
    return float(value)


def _globs(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(glob, str) for glob in value):
        raise ConfigError(f"replicated is {value!r}, expected a list of globs, such as ['ema/**']")
    return tuple(value)


def _retention(given: Mapping[str, Any]) -> Retention:
    metric = given.get("keep.best.metric")
    if metric is None and any(field.startswith("keep.best.") for field in given):
        raise ConfigError("keep.best says nothing without keep.best.metric, the name of a metric that is logged")
    best: Any = (metric, given.get("keep.best.k", 1), given.get("keep.best.mode", "min"))
    return Retention(
        keep_last=given.get("keep.last"),
        keep_every=given.get("keep.every"),
        keep_best=None if metric is None else best,
    )

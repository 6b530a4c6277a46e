"""Settings of the state managers, from the environment.

| variable | values | default |
| --- | --- | --- |
| `LATTICE_CHECKPOINT_TYPE` | `local`, `s3` (any object store) or `remote`, in any case | `local` |
| `LATTICE_CHECKPOINT_CONFIG` | `key=value,key=value` with the keys below |  |
| `LATTICE_LOGLEVEL` | a logging level: its name or its number | `WARNING` |
| `LATTICE_AUTOPATCH` | `torch` |  |

| key | values | default |
| --- | --- | --- |
| `root` | directory of the checkpoints; of type `s3`: URL | by the program's path; of type `s3`: required |
| `atexit_saving` | `enabled`, `disabled` | `enabled` |
| `periodic_saving` | `enabled`, `disabled` | `disabled` |
| `periodic_saving_interval` | seconds; required for periodic saving |  |
| `keep_last` | how many checkpoints to keep: a number, or `all` | `all` |
| `job_id` | of type `remote`: name of the job |  |
| `ckpt_service_endpoint` | of type `remote`: host |  |
| `ckpt_service_port` | of type `remote`: port | 6379 |
"""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from sucrose.errors import ConfigError

CHECKPOINT_TYPE = "LATTICE_CHECKPOINT_TYPE"
CHECKPOINT_CONFIG = "LATTICE_CHECKPOINT_CONFIG"
LOGLEVEL = "LATTICE_LOGLEVEL"
AUTOPATCH = "LATTICE_AUTOPATCH"

_TYPES = ("local", "s3", "remote")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_MAX_PORT = 65535
_KEYS = (
    "root",
    "atexit_saving",
    "periodic_saving",
    "periodic_saving_interval",
    "keep_last",
    "job_id",
    "ckpt_service_endpoint",
    "ckpt_service_port",
)
_INTERVAL = "periodic_saving_interval"
_OF_SERVERS = ("job_id", "ckpt_service_endpoint", "ckpt_service_port")
_WITHOUT_EFFECT = {"local": _OF_SERVERS, "s3": _OF_SERVERS, "remote": ("root",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the tables above list; None where nothing was given."""

    type: str = "local"
    root: str | None = None
    atexit_saving: bool = True
    periodic_saving: bool = False
    periodic_saving_interval: float | None = None
    """In seconds."""
    keep_last: int | None = None
    """None: all."""
    job_id: str | None = None
    ckpt_service_endpoint: str | None = None
    ckpt_service_port: int = 6379
    loglevel: int | None = None
    """As `logging` counts; None where the variable is not set, which means WARNING."""
    autopatch: bool = False
    without_effect: tuple[str, ...] = ()
    """Keys of `LATTICE_CHECKPOINT_CONFIG` that mean nothing beside the other settings."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in `environ`.

        Raises:
            ConfigError: a value is malformed; the message shows it and what is allowed.
        """
        config = _Config(environ.get(CHECKPOINT_CONFIG, ""))
        kind = _parse_type(environ.get(CHECKPOINT_TYPE, "local"))
        is_periodic = config.switch("periodic_saving", default=False)
        settings = cls(
            type=kind,
            root=config.text("root"),
            atexit_saving=config.switch("atexit_saving", default=True),
            periodic_saving=is_periodic,
            periodic_saving_interval=config.seconds("periodic_saving_interval"),
            keep_last=config.count("keep_last"),
            job_id=config.text("job_id"),
            ckpt_service_endpoint=config.text("ckpt_service_endpoint"),
            ckpt_service_port=config.port("ckpt_service_port", default=6379),
            loglevel=_parse_loglevel(environ.get(LOGLEVEL, "")),
            autopatch=_parse_autopatch(environ.get(AUTOPATCH, "")),
            without_effect=config.given(_WITHOUT_EFFECT[kind] if is_periodic else (*_WITHOUT_EFFECT[kind], _INTERVAL)),
        )
        if is_periodic and settings.periodic_saving_interval is None:
            raise config.error("periodic_saving=enabled needs periodic_saving_interval=SECONDS beside it")
        return settings


class _Config:
    """The parts of `LATTICE_CHECKPOINT_CONFIG`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._values: dict[str, str] = {}
        for item in text.split(",") if text.strip() else []:
            key, separator, value = (part.strip() for part in item.partition("="))
            if not separator or not key:
                raise self.error(f"{item.strip()!r} is not key=value")
            if key not in _KEYS:
                near = difflib.get_close_matches(key, _KEYS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KEYS)}"
                raise self.error(f"unknown key {key!r}; {hint}")
            if key in self._values:
                raise self.error(f"{key!r} is given twice")
            if not value:
                raise self.error(f"{key!r} has no value")
            self._values[key] = value

    def error(self, message: str) -> ConfigError:
        return ConfigError(f"{CHECKPOINT_CONFIG}={self._text!r}: {message}")

    def given(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(key for key in keys if key in self._values)

    def text(self, key: str) -> str | None:
        return self._values.get(key)

    def switch(self, key: str, *, default: bool) -> bool:
        value = self._values.get(key, "enabled" if default else "disabled").lower()
        if value not in ("enabled", "disabled"):
            raise self._refused(key, "enabled or disabled")
        return value == "enabled"

    def seconds(self, key: str) -> float | None:
        if key not in self._values:
            return None
        try:
            seconds = float(self._values[key])
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise self._refused(key, "a number of seconds above 0")
        return seconds

    def count(self, key: str) -> int | None:
        value = self._values.get(key, "all")
        if value.lower() == "all":
            return None
        if not _is_number(value) or int(value) == 0:
            raise self._refused(key, "a whole number from 1, or all")
        return int(value)

    def port(self, key: str, *, default: int) -> int:
        value = self._values.get(key, str(default))
        if not _is_number(value) or not 0 < int(value) <= _MAX_PORT:
            raise self._refused(key, f"a port from 1 to {_MAX_PORT}")
        return int(value)

    def _refused(self, key: str, allowed: str) -> ConfigError:
        return self.error(f"{key}={self._values[key]!r}; expected {allowed}")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _parse_type(text: str) -> str:
    kind = text.strip().lower()
    if kind not in _TYPES:
        raise ConfigError(f"{CHECKPOINT_TYPE}={text!r}: expected one of {', '.join(_TYPES)}")
    return kind


def _parse_loglevel(text: str) -> int | None:
    level = text.strip().upper()
    if not level:
        return None
    if level in _LEVELS:
        return int(getattr(logging, level))
    if _is_number(level):
        return int(level)
    raise ConfigError(f"{LOGLEVEL}={text!r}: expected one of {', '.join(_LEVELS)}, or a number")


def _parse_autopatch(text: str) -> bool:
    what = text.strip().lower()
    if what not in ("", "torch"):
        raise ConfigError(f"{AUTOPATCH}={text!r}: expected torch, or nothing")
    return what == "torch"

"""Where a server is, how to get in, and how long to wait for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sucrose.errors import ConfigError
from sucrose.state.settings import CHECKPOINT_CONFIG, CHECKPOINT_TYPE

PASSWORD = "LATTICE_CKPT_SERVICE_PASSWORD"  # noqa: S105 - the name of a variable
USERNAME = "LATTICE_CKPT_SERVICE_USERNAME"
"""Environment variables: the settings are copied into logs and job descriptions, where no password belongs."""

_MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server as one job sees it.

    Raises:
        ConfigError: a part of it is missing or malformed.
    """

    job_id: str
    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    """The longest silence of the server."""
    connect_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.job_id:
            raise _missing("job_id", "the job's name")
        if not self.host:
            raise _missing("ckpt_service_endpoint", "the server's host name or address")
        if "/" in self.host or self.host.count(":") == 1:
            raise ConfigError(
                f"{CHECKPOINT_CONFIG}: ckpt_service_endpoint={self.host!r}: expected a host name or an address alone; "
                "the port goes into ckpt_service_port"
            )
        if not 0 < self.port <= _MAX_PORT:
            raise ConfigError(
                f"{CHECKPOINT_CONFIG}: ckpt_service_port={self.port}: expected a port from 1 to {_MAX_PORT}"
            )
        for name in ("timeout_s", "connect_timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}: expected a number of seconds above 0")

    def __str__(self) -> str:
        return f"job {self.job_id!r} on {self.host}:{self.port}"


def _missing(key: str, what: str) -> ConfigError:
    return ConfigError(f"{CHECKPOINT_TYPE}=remote needs {key}: set {CHECKPOINT_CONFIG}='{key}=...', {what}")

"""`storage_options`: what is understood for every store, and the rest, which the store's client gets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sucrose.errors import ConfigError

_REST = frozenset({"endpoint", "client"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """How to talk to a store.

    Attributes:
        endpoint: URL of the service, for one that is not the vendor's own.
        concurrency: requests at a time.
        part_nbytes: wished size of the parts of uploads; raised where the file would need too many.
        attempts: how often a request that failed for a passing reason is made, all in all.
        backoff_s: pause before the second attempt; doubles with each, less a random part of it.
        max_backoff_s: no pause is longer.
        connect_timeout_s: for a connection to be made.
        stall_timeout_s: a transfer of which no byte has moved for so long is given up and tried again.
        answer_timeout_s: for the answer to a request without a transfer.
        abandoned_after_s: what a take has left that never came to its commit is removed when it is so old.
        client: everything else: arguments of the client, such as s3fs's ``key`` and ``secret``. Never shown, as
            there are credentials among them.
    """

    endpoint: str | None = None
    concurrency: int = 16
    part_nbytes: int = 16 << 20
    attempts: int = 6
    backoff_s: float = 0.2
    max_backoff_s: float = 20.0
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 60.0
    answer_timeout_s: float = 120.0
    abandoned_after_s: float = 86_400.0
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, given: Mapping[str, Any] | None) -> StorageOptions:
        """Options from what users pass as `storage_options`.

        Raises:
            ConfigError: a value is not allowed.

        Example:
            >>> from sucrose.storage.objects import StorageOptions
            >>> StorageOptions.parse({"concurrency": 4, "profile": "training"}).client
            {'profile': 'training'}
        """
        ours: dict[str, Any] = {}
        known = {option.name: option.type for option in fields(cls)} if given else {}
        client: dict[str, Any] = dict((given or {}).get("client") or {})
        for name, value in (given or {}).items():
            if name == "client":
                continue
            if name not in known:
                client[name] = value
            elif name == "endpoint":
                ours[name] = _endpoint(value)
            else:
                ours[name] = _number(name, value, whole=known[name] == "int")
        return cls(**ours, client=client)


def _endpoint(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.startswith(("http://", "https://")) or "@" in value:
        raise ConfigError(
            "storage_options: endpoint is a URL that begins with http:// or https:// and has no credentials in it",
            key="endpoint",
        )
    return value.rstrip("/")


def _number(name: str, value: object, *, whole: bool) -> float:
    minimum = 1 if whole else 0
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not minimum <= value < math.inf:  # type: ignore[operator]  # it is a number
        kind = "a whole number from 1" if whole else "a number of seconds from 0"
        raise ConfigError(f"storage_options: {name}={value!r}: expected {kind}", key=name)
    return value  # type: ignore[return-value]  # likewise

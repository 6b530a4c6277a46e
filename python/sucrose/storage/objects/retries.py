"""Trying again what failed for a passing reason, with pauses that grow and differ between clients."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sucrose.storage.objects.failures import Failure, examine, storage_error
from sucrose.storage.objects.giving_up import pause
from sucrose.storage.objects.options import StorageOptions

logger = logging.getLogger(__name__)

T = TypeVar("T")
_random = random.SystemRandom()  # not the generator whose state programs save and expect to be theirs


def call_with_retries(
    operation: Callable[[int], T], options: StorageOptions, doing: str, url: str, *, repeatable: bool = True
) -> T:
    """The result of the operation, tried up to `options.attempts` times.

    Args:
        operation: gets the number of the attempt, from 1.
        options: number of attempts, and the pauses between them.
        doing: what it does, for messages: ``"reading"``.
        url: of the object.
        repeatable: whether it may be tried again at all.

    Raises:
        SucroseError: what has failed at last, as an error of ours.
    """
    begun = time.monotonic()
    attempt = 1
    while True:
        try:
            return operation(attempt)
        except Exception as error:  # noqa: BLE001  # whatever a client raises, `examine` has to tell
            failure = examine(error)
            if not (repeatable and failure.is_passing) or attempt >= options.attempts:
                elapsed_s = time.monotonic() - begun
                failed = storage_error(failure, error, doing, url, attempts=attempt, elapsed_s=elapsed_s)
                raise failed from (None if failed is error else error)
            pause_s = pause_before(attempt + 1, failure, options)
            logger.info("%s %s failed, attempt %d of %d: %s", doing, url, attempt, options.attempts, failure.said)
        pause(pause_s)
        attempt += 1


def pause_before(attempt: int, failure: Failure, options: StorageOptions) -> float:
    """Seconds to wait before an attempt, from the second on: between half and all of a time that doubles.

    A store that says itself how long to wait is obeyed, up to the same limit.
    """
    longest = min(options.max_backoff_s, options.backoff_s * 2.0 ** (attempt - 2))
    pause_s = longest * (0.5 + 0.5 * _random.random())
    return min(options.max_backoff_s, max(pause_s, failure.retry_after_s))

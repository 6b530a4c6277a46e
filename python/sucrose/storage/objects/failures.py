"""What the errors of many clients mean: whether it is worth trying again, and which error of ours it is.

Clients are told apart by the names of their classes, so that none has to be imported.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sucrose.errors import (
    AccessDeniedError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageTimeoutError,
    SucroseError,
)

_MAX_SAID = 300

_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 509})
_PASSING_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "OperationTimedOut",
        "RequestTimeout",
        "ServerBusy",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)
_THROTTLING = frozenset({"ServerBusy", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"})
_MISSING_CODES = frozenset({"NoSuchKey", "NoSuchBucket", "BlobNotFound", "ContainerNotFound", "NotFound", "404"})

# First part of the module, and name, of a class that an error has among its bases.
_CONNECTION = frozenset(
    {
        "aiohttp.ClientConnectionError",
        "aiohttp.ClientPayloadError",
        "aiohttp.ServerDisconnectedError",
        "azure.IncompleteReadError",
        "azure.ServiceRequestError",
        "azure.ServiceResponseError",
        "botocore.ConnectionError",
        "botocore.HTTPClientError",
        "botocore.IncompleteReadError",
        "botocore.ResponseStreamingError",
        "http.IncompleteRead",
        "httpx.TransportError",
        "httpx2.TransportError",
        "requests.ChunkedEncodingError",
        "requests.ConnectionError",
        "urllib3.ProtocolError",
    }
)
_TIMEOUT = frozenset(
    {
        "asyncio.TimeoutError",
        "azure.ServiceRequestTimeoutError",
        "azure.ServiceResponseTimeoutError",
        "botocore.ConnectTimeoutError",
        "botocore.ReadTimeoutError",
        "builtins.TimeoutError",
        "httpx.TimeoutException",
        "httpx2.TimeoutException",
        "requests.Timeout",
    }
)
_NO_CREDENTIALS = frozenset(
    {
        "azure.ClientAuthenticationError",
        "botocore.NoCredentialsError",
        "botocore.PartialCredentialsError",
        "botocore.CredentialRetrievalError",
        "botocore.ProfileNotFound",
        "google.DefaultCredentialsError",
        "google.RefreshError",
    }
)
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)  # object stores have no folders
_PASSING_ERRNO = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ETIMEDOUT,
    }
)


class StalledError(TimeoutError):
    """No byte of a transfer has moved for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What an error means.

    Attributes:
        errno: the number that a local file system would have given.
        is_passing: whether the same request may succeed later.
        said: what the client said, in one line.
        retry_after_s: how long the store wants to be left alone; 0 where it does not say.
    """

    errno: int
    is_passing: bool
    said: str
    retry_after_s: float = 0.0


def examine(error: BaseException) -> Failure:
    """What an error of a client means, by its status, code, number and class, in this order."""
    status, code = _status(error), _code(error)
    number, is_passing = _meaning(error, status, code)
    return Failure(
        errno=number, is_passing=is_passing, said=_said(error, status, code), retry_after_s=_retry_after_s(error)
    )


def storage_error(
    failure: Failure, error: Exception, doing: str, url: str, *, attempts: int, elapsed_s: float
) -> SucroseError:
    """The error of ours for what has failed at last.

    Args:
        failure: what `examine` made of the error.
        error: the client's; one that is ours already is returned as it is.
        doing: what was done, such as ``"reading"``.
        url: of the object.
        attempts: how many there were.
        elapsed_s: how long they took.
    """
    if isinstance(error, SucroseError):
        return error
    times = f" {attempts} times in {elapsed_s:.0f} s, at last" if attempts > 1 else ""
    message = f"{doing} {url} failed{times}: {failure.said}. {_what_to_do(failure, attempts)}"
    kinds: dict[int, type[StorageError]] = {
        errno.ENOENT: ObjectNotFoundError,
        errno.EEXIST: ObjectExistsError,
        errno.EACCES: AccessDeniedError,
        errno.ETIMEDOUT: StorageTimeoutError,
    }
    raised = kinds.get(failure.errno, StorageError)(failure.errno, message, url, path=url)
    raised.attempts = attempts
    return raised


def _what_to_do(failure: Failure, attempts: int) -> str:
    again = "try again later" if attempts > 1 else "try again"
    advice = {
        errno.EEXIST: "Choose another name",
        errno.ENOENT: "See whether the URL is right: its bucket, its path and the storage's endpoint",
        errno.EACCES: "See whether there are credentials, in storage_options or the environment, and what they allow",
        errno.ETIMEDOUT: f"See whether the endpoint can be reached and is overloaded, and {again}",
        errno.EBUSY: "The store limits the rate of requests: lower 'concurrency' in storage_options, or raise "
        "'attempts' and 'max_backoff_s'",
        errno.ENOSPC: "The store is full, or a quota is used up: free space there",
        errno.EOPNOTSUPP: "The store cannot do that: perhaps it is for reading only",
        errno.EROFS: "Choose another URL",
    }
    if failure.errno in advice:
        return advice[failure.errno]
    if failure.is_passing:
        return f"See whether the store is up and can be reached from this machine, and {again}"
    return "See what the store demands, and whether storage_options and the URL agree with that"


def _meaning(  # noqa: PLR0911  # a list of cases, the most certain ones first
    error: BaseException, status: int | None, code: str
) -> tuple[int, bool]:
    """The errno, and whether it passes."""
    names = set(_class_names(error))
    if isinstance(error, SucroseError):
        return getattr(error, "errno", None) or errno.EIO, False
    if isinstance(error, FileExistsError):
        return errno.EEXIST, False
    if isinstance(error, NotImplementedError):
        return errno.EOPNOTSUPP, False
    if code in _MISSING_CODES or status in (404, 410) or isinstance(error, _NO_FILE):
        return errno.ENOENT, False
    if code in _THROTTLING or status in (429, 503):
        return errno.EBUSY, True
    if code in _PASSING_CODES or status in _PASSING_STATUS:
        return errno.ETIMEDOUT if status in (408, 504) else errno.EIO, True
    if status in (401, 403) or names & _NO_CREDENTIALS or isinstance(error, PermissionError):
        return errno.EACCES, False
    if status == 507 or code in ("QuotaExceeded", "AccountBeingQuotaLimited"):
        return errno.ENOSPC, False
    if status is not None:
        return (errno.EIO, True) if status >= 500 else (errno.EPROTO, False)
    if names & _TIMEOUT:
        return errno.ETIMEDOUT, True
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if names & _CONNECTION or isinstance(error, (ConnectionError, EOFError)):
        return number if isinstance(number, int) and number > 0 else errno.ECONNRESET, True
    if isinstance(number, int) and number > 0:
        return number, number in _PASSING_ERRNO
    return errno.EIO, False


def _class_names(error: BaseException) -> Iterator[str]:
    for kind in type(error).__mro__:
        yield f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _response(error: BaseException) -> dict[str, object]:
    """botocore's; empty of other clients."""
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}


def _nested(mapping: object, name: str) -> object:
    return mapping.get(name) if isinstance(mapping, dict) else None


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    candidates = (
        _nested(_nested(response, "ResponseMetadata"), "HTTPStatusCode"),  # botocore
        getattr(error, "status_code", None),  # azure
        getattr(response, "status_code", None),  # requests, httpx
        getattr(error, "status", None),  # aiohttp
        getattr(error, "code", None),  # gcsfs
    )
    for candidate in candidates:
        text = str(candidate)
        if text.isdigit() and 100 <= int(text) < 600:
            # A few requests to S3 answer 200 and report an error in the body.
            return int(text) if int(text) >= 300 else None
    return None


def _code(error: BaseException) -> str:
    given = _nested(_nested(_response(error), "Error"), "Code") or getattr(error, "error_code", None) or ""
    return str(getattr(given, "value", given))


def _said(error: BaseException, status: int | None, code: str) -> str:
    text = " ".join(str(error)[: 4 * _MAX_SAID].split()).rstrip(".")[:_MAX_SAID] or type(error).__name__
    for known in (code, str(status) if status else ""):
        if known and known not in text:
            text = f"{known}: {text}"
    if isinstance(error, OSError) and error.errno and error.errno > 0 and not error.strerror:
        text = f"{text} ({os.strerror(error.errno)})"
    return text


def _retry_after_s(error: BaseException) -> float:
    headers: Any = _nested(_nested(_response(error), "ResponseMetadata"), "HTTPHeaders")
    if headers is None:
        headers = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", None)
    try:
        return max(0.0, float(headers.get("retry-after") or headers.get("Retry-After")))
    except (AttributeError, TypeError, ValueError):  # no headers, none of that name, or a date
        return 0.0

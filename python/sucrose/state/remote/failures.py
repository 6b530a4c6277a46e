"""What failures of the server mean to a user."""

from __future__ import annotations

import errno

from sucrose.errors import ConfigError, CorruptionError, StorageError, SucroseError
from sucrose.state.remote.address import PASSWORD, USERNAME, Address

_MAX_MESSAGE = 200
_ERRNO_AT = "Error "  # as the client words failures to connect: "Error 111 connecting to ..."


def failure(error: Exception, doing: str, address: Address) -> SucroseError:
    """The error of ours that says what has failed.

    Args:
        error: what the client has raised or returned.
        doing: what was to be done, such as ``"saving the states of job 'a' on host:6379"``.
        address: of the server.
    """
    import redis

    said = one_line(error)
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.NoPermissionError)):
        return ConfigError(
            f"{doing} failed: the server refuses this user: {said}: set {PASSWORD} and, if it has users, {USERNAME}, "
            "and let the user read and write the keys of the job and run scripts"
        )
    if "WRONGTYPE" in said:
        return CorruptionError(
            f"{doing} failed: another program uses the job's keys: {said}: choose another job_id", path=str(address)
        )
    code, why = _reason(error, said, address)
    return StorageError(code, f"{doing} failed: {why}", path=str(address))


def one_line(error: Exception) -> str:
    """What the error says, within reason: a hostile server may say much."""
    text = " ".join(str(error)[: 2 * _MAX_MESSAGE].split()).rstrip(".")
    return text[:_MAX_MESSAGE] or type(error).__name__


def _reason(error: Exception, said: str, address: Address) -> tuple[int, str]:
    """Number and text of a StorageError."""
    from redis import exceptions

    if isinstance(error, exceptions.TimeoutError):
        limits = f"{address.timeout_s:g} s (to connect: {address.connect_timeout_s:g} s)"
        return errno.ETIMEDOUT, f"no answer within {limits}: see whether the server is overloaded or stopped"
    if isinstance(error, exceptions.OutOfMemoryError):
        return errno.ENOSPC, f"the server's memory is full ({said}): raise its maxmemory, or lower keep_last"
    if isinstance(error, exceptions.ReadOnlyError):
        return errno.EROFS, f"the server is a replica ({said}): set ckpt_service_endpoint to the primary"
    if isinstance(error, exceptions.BusyLoadingError):
        return errno.EAGAIN, f"the server is starting ({said}): try again when it has loaded its data"
    if isinstance(error, exceptions.ConnectionError):
        return _errno_of(said), f"{said}: see whether the server runs and can be reached from this machine"
    return errno.EPROTO, f"the server answered: {said}"


def _errno_of(said: str) -> int:
    """The number in a failure to connect; those of name resolution are negative."""
    code = said.removeprefix(_ERRNO_AT).partition(" ")[0]
    if said.startswith(_ERRNO_AT) and code.lstrip("-").isdigit():
        return int(code) if int(code) > 0 else errno.EHOSTUNREACH
    return errno.ECONNRESET

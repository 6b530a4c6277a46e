"""Commands to the server, and what its failures mean.

Everything that is sent may be sent again (see the scripts), so a batch whose connection was lost is. One
that was not answered in time is not: it has taken long enough, and the server would only get more to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sucrose.errors import ConfigError
from sucrose.state.remote.address import Address
from sucrose.state.remote.failures import failure, one_line

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

Command: TypeAlias = "tuple[str | int | bytes | memoryview, ...]"

_PAUSES_S = (0.1, 0.5)
"""Before each further attempt: a server that is restarted takes connections again soon."""


class Session:
    """Connections of one operation, opened when needed and closed at its end. For one thread.

    Args:
        address: of the server.
        doing: for messages, such as ``"saving the states of job 'a' on host:6379"``.
    """

    def __init__(self, address: Address, doing: str) -> None:
        self.address = address
        self._doing = doing
        self._client = _client(address)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()
        self._client.connection_pool.disconnect()

    def run(self, *commands: Command) -> list[Any]:
        """Sends the commands in one go on one connection, and returns what is answered to each.

        Raises:
            ConfigError: the server lets nobody in with this user and password.
            CorruptionError: a key holds another type of value than this package puts there.
            StorageError: the server cannot be reached, gives no answer in time, or refuses.
        """
        replies = self.try_run(*commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise failure(reply, self._doing, self.address) from reply
        return replies

    def run_script(self, script: str, keys: Sequence[str], *arguments: str | int | bytes) -> Any:
        """What a script returns; raises like `run`."""
        return self.run(script_command(script, keys, *arguments))[0]

    def try_run(self, *commands: Command) -> list[Any]:
        """Like `run`, but a refusal of the server's is returned in the place of the answer."""
        import redis

        for pause_s in (*_PAUSES_S, None):
            try:
                return self._send(commands)
            except redis.AuthenticationError as error:
                raise failure(error, self._doing, self.address) from error
            except redis.ConnectionError as error:
                if pause_s is None:
                    raise failure(error, self._doing, self.address) from error
                logger.info("%s: %s; trying again", self._doing, one_line(error))
                time.sleep(pause_s)
            except (redis.RedisError, OSError) as error:
                raise failure(error, self._doing, self.address) from error
        raise AssertionError("the last attempt returns or raises")

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call] # as redis has it
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies


def script_command(script: str, keys: Sequence[str], *arguments: str | int | bytes) -> Command:
    """The command that runs a script."""
    return ("EVAL", script, len(keys), *keys, *arguments)


def require_client() -> None:
    """Loads the client's package, now rather than in a signal handler.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import redis  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "keeping states on a server needs the package redis, which is not installed: "
            "run pip install 'torch-sucrose[remote]'"
        ) from error


def _client(address: Address) -> redis.Redis:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis(
        host=address.host,
        port=address.port,
        username=address.username,
        password=address.password,
        socket_timeout=address.timeout_s,
        socket_connect_timeout=address.connect_timeout_s,
        retry=Retry(NoBackoff(), 0),  # attempts are counted here
        protocol=2,  # servers older than 6 know no other
    )

"""What goes wrong between a program and the server: one clear error, and the old states or the new ones."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
import torch
from redis_server import EPHEMERAL, RedisServer, wait_until

from sucrose.errors import ConfigError, NotDurableError, StorageError, SucroseError
from sucrose.state.remote import RemoteCheckpoints
from sucrose.state.remote.record import CHUNK_NBYTES
from sucrose.state.remote.upload import Upload
from sucrose.state.values import freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sucrose.state.values import FrozenState

PASSWORD = "open sesame, said the test"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.close()


def states(count: int, nbytes: int = 2 * CHUNK_NBYTES + 1) -> dict[str, FrozenState]:
    """Several batches of chunks."""
    return {
        "count": freeze(count, "count"),
        "tensor": freeze(torch.full((nbytes,), count, dtype=torch.uint8), "tensor"),
    }


def found(checkpoints: RemoteCheckpoints) -> int | None:
    saved = checkpoints.newest()
    if saved is None:
        return None
    count, tensor = (
        thaw(saved.read(key), key=key, source="the server", distrust=saved.distrust) for key in ("count", "tensor")
    )
    assert bool((tensor == count).all())
    return int(count)


def intercept(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[int, Any], None]) -> Callable[[], int]:
    """Calls `act` with a number and the connection before each send or receive; returns what counts them."""
    original = getattr(redis.connection.AbstractConnection, name)
    calls = 0

    def intercepted(connection: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        act(calls, connection)
        return original(connection, *args, **kwargs)

    monkeypatch.setattr(redis.connection.AbstractConnection, name, intercepted)
    return lambda: calls


@pytest.mark.parametrize("direction", ["send_packed_command", "read_response"])
def test_a_connection_lost_at_any_moment_is_made_again_and_nothing_is_saved_twice(
    server: RedisServer, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = server.checkpoints(keep_last=2)
    checkpoints.save(states(0))
    with monkeypatch.context() as patch:
        count_calls = intercept(patch, direction, lambda number, connection: None)
        checkpoints.save(states(0))
        calls = count_calls()
    assert calls > 10

    for moment in range(1, calls + 1):

        def lose(number: int, connection: Any, moment: int = moment) -> None:
            if number == moment:
                connection.disconnect()
                raise redis.ConnectionError("the cable was pulled")

        with monkeypatch.context() as patch:
            intercept(patch, direction, lose)
            patch.setattr("time.sleep", lambda seconds: None)
            checkpoints.save(states(moment))
        assert len(server.generations()) == 2
        assert server.lasting_chunks() == server.generations()
        assert found(checkpoints) == moment


def test_a_server_that_dies_in_mid_save_has_the_old_states_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    try:
        checkpoints = server.checkpoints()
        checkpoints.save(states(1))

        def die(upload: Upload, *rest: Any) -> None:
            server.kill()
            send(upload, *rest)

        send = Upload._send
        with monkeypatch.context() as patch:
            patch.setattr(Upload, "_send", die)
            with pytest.raises(StorageError) as caught:
                checkpoints.save(states(2))
        assert caught.value.errno == errno.ECONNREFUSED
        assert f"saving the states of job 'job' on 127.0.0.1:{server.port} failed" in str(caught.value)
        server.start()
        assert found(checkpoints) == 1
        checkpoints.save(states(3))
        assert found(checkpoints) == 3
    finally:
        server.close()


def test_a_server_that_is_not_there_is_named_with_what_to_look_at() -> None:
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        checkpoints = RemoteCheckpoints("job", "127.0.0.1", bound.getsockname()[1])
        with pytest.raises(StorageError, match="see whether the server runs") as caught:
            checkpoints.save(states(1))
    assert caught.value.errno == errno.ECONNREFUSED
    assert "\n" not in str(caught.value)


def test_a_name_that_nobody_knows_is_a_clear_error() -> None:
    checkpoints = RemoteCheckpoints("job", "no-such-host.invalid", 6379)
    with pytest.raises(StorageError, match=r"no-such-host\.invalid") as caught:
        checkpoints.newest()
    assert caught.value.errno in (errno.EHOSTUNREACH, errno.ETIMEDOUT)


def test_a_server_that_accepts_and_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        checkpoints = RemoteCheckpoints("job", "127.0.0.1", listener.getsockname()[1], timeout_s=0.2)
        for operation in (checkpoints.newest, lambda: checkpoints.save(states(1))):
            with pytest.raises(StorageError, match=r"no answer within 0\.2 s") as caught:
                operation()
            assert caught.value.errno == errno.ETIMEDOUT


@pytest.mark.parametrize(
    ("answer", "code"),
    [(b"", errno.ECONNRESET), (b"HTTP/1.1 400 Bad Request\r\n\r\n", errno.EPROTO), (b"$99999\r\nab", errno.ECONNRESET)],
    ids=["nothing", "http", "half a reply"],
)
def test_a_server_that_speaks_something_else_is_a_clear_error(answer: bytes, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        checkpoints = RemoteCheckpoints("job", "127.0.0.1", listener.getsockname()[1], timeout_s=60)
        with pytest.raises(StorageError) as caught:
            checkpoints.newest()
        assert caught.value.errno == code
        assert "\n" not in str(caught.value)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("step", ["_send", "_commit", "_remove_old"])
def test_a_server_that_stops_answering_in_mid_save_leaves_the_old_states_or_the_new(
    server: RedisServer, step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = server.checkpoints(keep_last=1, timeout_s=2.0)
    server.checkpoints().save(states(1))
    original = getattr(Upload, step)

    def stopped(upload: Upload, *rest: Any) -> Any:
        server.send_signal(signal.SIGSTOP)
        return original(upload, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Upload, step, stopped)
        if step == "_remove_old":  # the save itself is over by then
            checkpoints.save(states(2))
            assert "removing old states of job 'job'" in caplog.text
        else:
            with pytest.raises(StorageError, match=r"no answer within 2 s") as caught:
                checkpoints.save(states(2))
            assert caught.value.errno == errno.ETIMEDOUT
    server.send_signal(signal.SIGCONT)
    # The commit may have reached the server, which carries it out when it goes on.
    assert found(server.checkpoints()) in {"_send": [1], "_commit": [1, 2], "_remove_old": [2]}[step]
    server.checkpoints(keep_last=1).save(states(3))
    assert found(server.checkpoints()) == 3
    assert len(server.generations()) == 1
    assert server.lasting_chunks() == server.generations()


def test_a_full_server_says_so_keeps_the_old_states_and_is_given_its_memory_back(server: RedisServer) -> None:
    checkpoints = server.checkpoints(keep_last=1)
    checkpoints.save(states(1))
    server.client.config_set("maxmemory", "40mb")
    with pytest.raises(StorageError, match=r"memory is full .*raise its maxmemory, or lower keep_last") as caught:
        checkpoints.save(states(2, 40 << 20))
    assert caught.value.errno == errno.ENOSPC
    assert server.client.keys("job:chunks:*") == [b"job:chunks:1"]
    assert found(checkpoints) == 1
    wait_until(lambda: server.client.info("memory")["used_memory"] < 25 << 20)
    checkpoints.save(states(3))
    assert found(checkpoints) == 3


def test_chunks_that_the_server_drops_meanwhile_prevent_the_commit(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = server.checkpoints()
    checkpoints.save(states(1))
    commit = Upload._commit

    def evicted(upload: Upload, *rest: Any) -> bool:
        server.client.hdel("job:chunks:2", "1.0")
        return commit(upload, *rest)

    monkeypatch.setattr(Upload, "_commit", evicted)
    with pytest.raises(StorageError, match="maxmemory-policy be noeviction"):
        checkpoints.save(states(2))
    assert server.generations() == server.lasting_chunks() == [1]
    assert found(checkpoints) == 1


def test_a_replica_can_be_read_but_not_written(
    server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "replica").mkdir()
    replica = RedisServer(tmp_path / "replica", *EPHEMERAL, "--replicaof", "127.0.0.1", str(server.port))
    try:
        server.client.config_set("repl-diskless-sync-delay", 0)
        server.checkpoints().save(states(1))
        server.checkpoints().save(states(2))
        server.client.hdel("job:chunks:2", "1.0")
        server.client.set("last", 1)
        wait_until(lambda: replica.client.get("last"))
        with pytest.raises(StorageError, match="set ckpt_service_endpoint to the primary") as caught:
            replica.checkpoints().save(states(3))
        assert caught.value.errno == errno.EROFS
        assert found(replica.checkpoints()) == 1
        assert "chunk 0 of 'tensor' in generation 2" in caplog.text
    finally:
        replica.close()


def test_a_broken_generation_that_may_not_be_set_aside_is_passed_over(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    for count in (1, 2):
        server.checkpoints().save(states(count))
    server.client.hdel("job:chunks:2", "1.0")
    server.client.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["job:*"], categories=["+@read"])
    for _ in range(2):
        assert found(server.checkpoints(username="reader", password="secret")) == 1
        assert "the broken one stays" in caplog.text
        caplog.clear()
    assert server.generations() == [1, 2]


def test_a_full_server_does_not_keep_a_program_from_an_older_generation(server: RedisServer) -> None:
    for count in (1, 2):
        server.checkpoints().save(states(count))
    server.client.hdel("job:chunks:2", "1.0")
    server.client.config_set("maxmemory", "1mb")
    assert found(server.checkpoints()) == 1


@pytest.mark.parametrize("password", [None, "wrong, said the test"])
def test_a_server_that_refuses_the_user_says_which_variable_to_set_and_never_the_password(
    tmp_path: Path, password: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = RedisServer(tmp_path, password=PASSWORD)
    try:
        checkpoints = server.checkpoints(password=password)
        for operation in (
            checkpoints.newest,
            lambda: checkpoints.save(states(1)),
            lambda: checkpoints.begin_save(states(1)).wait(),
        ):
            with pytest.raises(ConfigError, match="set LATTICE_CKPT_SERVICE_PASSWORD") as caught:
                operation()
            assert f"on 127.0.0.1:{server.port}" in str(caught.value)
            assert "said the test" not in f"{caught.value!r} {checkpoints.where} {vars(checkpoints)}"
        checkpoints = server.checkpoints(password=PASSWORD)
        checkpoints.save(states(1))
        assert found(checkpoints) == 1
        assert "said the test" not in caplog.text
    finally:
        server.close()


def test_users_of_the_server_may_be_confined_to_the_job_s_keys(server: RedisServer) -> None:
    server.client.acl_setuser(
        "trainer",
        enabled=True,
        passwords=["+secret"],
        keys=["job:*"],
        categories=["-@all", "+@hash", "+@sortedset", "+@string", "+@keyspace", "+@scripting"],
    )
    checkpoints = server.checkpoints(username="trainer", password="secret", keep_last=1)
    for count in range(3):
        checkpoints.save(states(count))
    assert found(checkpoints) == 2
    with pytest.raises(ConfigError, match="read and write the keys of the job"):
        server.checkpoints("other", username="trainer", password="secret").save(states(1))


@pytest.mark.parametrize(
    ("answer", "is_durable"),
    [
        ([1, 0], True),
        ([0, 0], False),
        (redis.ResponseError("WAITAOF cannot be used when numlocal is set but appendonly is disabled."), True),
        (redis.ResponseError("unknown command 'WAITAOF'"), True),
    ],
)
def test_a_server_that_can_tell_is_asked_whether_its_disk_has_the_states(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, answer: Any, is_durable: bool
) -> None:
    parse_response = redis.client.Pipeline.parse_response

    def answered(pipeline: Any, connection: Any, command: str, **options: Any) -> Any:
        try:
            reply = parse_response(pipeline, connection, command, **options)
        except redis.ResponseError:
            if command != "WAITAOF":
                raise
            reply = None
        if command == "WAITAOF":
            if isinstance(answer, Exception):
                raise answer
            return answer
        return reply

    monkeypatch.setattr(redis.client.Pipeline, "parse_response", answered)
    checkpoints = server.checkpoints()
    if is_durable:
        checkpoints.save(states(1))
    else:
        with pytest.raises(NotDurableError, match="has not synced its append-only file"):
            checkpoints.save(states(1))
    assert found(checkpoints) == 1


def test_a_failed_save_in_the_background_is_told_to_everybody_who_waits(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    server.kill()
    pending = checkpoints.begin_save(states(1))
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            pending.wait()
        assert caught.value.errno == errno.ECONNREFUSED
    assert pending.done()
    server.start()
    checkpoints.save(states(2))
    assert found(checkpoints) == 2


def test_waiting_with_a_time_out_leaves_the_save_as_it_is(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    server.send_signal(signal.SIGSTOP)
    pending = checkpoints.begin_save(states(1))
    with pytest.raises(TimeoutError) as caught:
        pending.wait(0.05)
    assert not isinstance(caught.value, SucroseError)
    assert not pending.done()
    server.send_signal(signal.SIGCONT)
    pending.wait()
    assert found(checkpoints) == 1

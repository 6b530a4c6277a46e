"""States on a Redis-protocol server: what was saved comes back, whole and newest first."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
import torch
from bitwise import assert_same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_server import RedisServer

from sucrose.errors import ConfigError, CorruptionError, FormatVersionError, StorageError, UnsupportedError
from sucrose.state.checkpoints import save_one
from sucrose.state.remote import RemoteCheckpoints
from sucrose.state.remote.record import CHUNK_NBYTES
from sucrose.state.settings import Settings
from sucrose.state.values import freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sucrose.state.remote.saved import RemoteStates
    from sucrose.state.values import FrozenState

KEY = b"a key of sixteen bytes or more"


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture
def server(running_server: RedisServer) -> RedisServer:
    running_server.client.flushall()
    return running_server


def frozen(values: Mapping[str, Any]) -> dict[str, FrozenState]:
    return {key: freeze(value, key) for key, value in values.items()}


def thawed(saved: RemoteStates | None) -> dict[str, Any]:
    assert saved is not None
    return {
        key: thaw(saved.read(key), key=key, source="the server", distrust=saved.distrust)
        for key in saved.keys()  # noqa: SIM118
    }


class Custom:
    """What only an unrestricted pickle brings back."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


def test_values_of_all_kinds_come_back(server: RedisServer) -> None:
    large = torch.rand(CHUNK_NBYTES // 4 + 1)
    values = {
        "none": None,
        "text": "ä,=:\n",
        "bytes": bytes(range(256)),
        "set": {1, "two", (3, 4.5)},
        "nested": {"list": [1, {"deep": torch.arange(3)}], "custom": Custom(7)},
        "empty tensors": [torch.empty(0), torch.ones(2), torch.empty(0, 3)],
        "dtypes": [torch.tensor([1.5, float("nan")], dtype=dtype) for dtype in (torch.bfloat16, torch.complex64)],
        "large": {"whole": large, "bytes": bytes(2 * CHUNK_NBYTES), "strided": large[:6].view(2, 3).t()},
        "a:key/with%signs": True,
    }
    checkpoints = server.checkpoints(signing_key=KEY)
    checkpoints.save(frozen(values))
    assert_same(thawed(checkpoints.newest()), values)


def test_tensors_that_share_memory_share_it_again(server: RedisServer) -> None:
    whole = torch.arange(10.0)
    checkpoints = server.checkpoints()
    checkpoints.save(frozen({"state": {"whole": whole, "part": whole[2:5]}}))
    restored = thawed(checkpoints.newest())["state"]
    restored["part"].zero_()
    assert restored["whole"].tolist() == [0, 1, 0, 0, 0, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("surplus", [-1, 0, 1])
@pytest.mark.parametrize("chunks", [1, 2])
def test_sizes_around_a_chunk_come_back(server: RedisServer, chunks: int, surplus: int) -> None:
    pickle_nbytes = len(freeze(torch.ones(1, dtype=torch.uint8), "t").pickled)
    # The bytes of the pickle's sizes differ with the tensor's, so that the total is hit somewhere in these.
    for delta in range(-12, 4):
        tensor = torch.randint(0, 256, (chunks * CHUNK_NBYTES - pickle_nbytes + surplus + delta,), dtype=torch.uint8)
        checkpoints = server.checkpoints()
        state = freeze(tensor, "t")
        if (len(state.pickled) + tensor.nbytes - surplus) % CHUNK_NBYTES == 0:
            break
    else:
        pytest.fail("no size hits the boundary")
    checkpoints.save({"t": state})
    assert_same(thawed(checkpoints.newest()), {"t": tensor})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.dictionaries(st.text(max_size=5), VALUES, max_size=3))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_nested_value_comes_back_without_a_signing_key(server: RedisServer, values: dict[str, Any]) -> None:
    checkpoints = server.checkpoints(keep_last=1)
    checkpoints.save(frozen(values))
    restored = thawed(checkpoints.newest())
    assert restored == values
    assert list(restored) == list(values)


def test_the_newest_is_used_also_past_ten_and_an_empty_server_has_none(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    assert checkpoints.newest() is None
    for count in range(12):
        checkpoints.save(frozen({"count": count}))
        assert thawed(server.checkpoints().newest()) == {"count": count}
    assert server.generations() == list(range(1, 13))


def test_jobs_keep_to_themselves_also_where_one_id_begins_with_the_other(server: RedisServer) -> None:
    jobs = ["a", "a:generations", "a%3A", "a/b", "a b", "ä", "a*"]
    for job in jobs:
        for count in range(3):
            server.checkpoints(job, keep_last=1).save(frozen({"job": f"{job} {count}"}))
    for job in jobs:
        assert thawed(server.checkpoints(job).newest()) == {"job": f"{job} 2"}


def test_older_generations_go_after_the_commit_and_with_everything_that_they_had(server: RedisServer) -> None:
    for count in range(4):
        server.checkpoints().save(frozen({"count": count}))
    assert server.lasting_chunks() == [1, 2, 3, 4]
    server.checkpoints(keep_last=2).save(frozen({"count": 4}))
    assert server.generations() == server.lasting_chunks() == [4, 5]
    assert sorted(server.client.hkeys("job:records")) == [b"4", b"5"]


def test_a_state_read_twice_is_not_changed_by_the_first_reader(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    checkpoints.save(frozen({"t": torch.ones(3)}))
    saved = checkpoints.newest()
    thawed(saved)["t"].zero_()
    assert thawed(saved)["t"].tolist() == [1, 1, 1]


def test_a_state_that_was_removed_after_it_was_found_can_still_be_read_once(server: RedisServer) -> None:
    server.checkpoints().save(frozen({"count": 1}))
    saved = server.checkpoints().newest()
    server.checkpoints(keep_last=1).save(frozen({"count": 2}))
    assert thawed(saved) == {"count": 1}
    with pytest.raises(CorruptionError, match=r"generation 1 of job 'job' .* has no record"):
        thawed(saved)


def test_asking_for_a_state_that_was_not_saved_is_a_key_error(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    checkpoints.save(frozen({"a": 1}))
    saved = checkpoints.newest()
    assert saved is not None
    with pytest.raises(KeyError, match="b"):
        saved.read("b")


def test_one_state_can_be_replaced_and_the_others_stay(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    save_one(checkpoints, "a", freeze(1, "a"))
    save_one(checkpoints, "b", freeze(torch.ones(2), "b"))
    save_one(checkpoints, "a", freeze(3, "a"))
    restored = thawed(checkpoints.newest())
    assert restored["a"] == 3
    assert_same(restored["b"], torch.ones(2))


def test_a_background_save_holds_what_the_tensors_were_at_the_call(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    tensor = torch.ones(3 * CHUNK_NBYTES // 4)
    pending = checkpoints.begin_save(frozen({"t": tensor}))
    tensor.zero_()
    pending.wait()
    assert pending.done()
    assert bool((thawed(checkpoints.newest())["t"] == 1).all())


def test_generations_are_in_the_order_of_the_calls(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    checkpoints.begin_save(frozen({"count": 1, "t": torch.ones(2 * CHUNK_NBYTES)}))
    pending = checkpoints.begin_save(frozen({"count": 2}))
    checkpoints.save(frozen({"count": 3}))
    assert pending.done()
    counts = []
    while server.generations():
        counts.append(thawed(checkpoints.newest())["count"])
        server.client.zpopmax("job:generations")
    assert counts == [3, 2, 1]


def test_two_writers_and_a_reader_never_see_half_a_generation(server: RedisServer) -> None:
    rounds = 15
    filler = torch.ones(CHUNK_NBYTES // 4)

    def write(name: str) -> None:
        checkpoints = server.checkpoints(keep_last=2)
        for count in range(rounds):
            value = f"{name} {count}"
            checkpoints.save(frozen({"first": value, "filler": filler, "second": value}))

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    reader = server.checkpoints()
    while any(writer.is_alive() for writer in writers):
        saved = reader.newest()
        if saved is not None:
            values = thawed(saved)
            assert values["first"] == values["second"]
    assert len(server.generations()) <= 3  # each writer spares its own
    assert server.lasting_chunks() == server.generations()
    assert server.client.get("job:counter") == str(2 * rounds).encode()
    assert not server.client.exists("job:quarantine")


def test_a_lost_counter_does_not_hide_or_overwrite_generations(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    for count in range(3):
        checkpoints.save(frozen({"count": count}))
    server.client.delete("job:counter")
    checkpoints.save(frozen({"count": 3}))
    assert server.generations() == [1, 2, 3, 4]
    assert thawed(checkpoints.newest()) == {"count": 3}


def flip_a_bit(client: redis.Redis) -> None:
    chunk = client.hget("job:chunks:2", "1.0")
    client.hset("job:chunks:2", "1.0", bytes([chunk[0] ^ 1]) + chunk[1:])


DAMAGES = {
    "a chunk is missing": lambda client: client.hdel("job:chunks:2", "1.0"),
    "all chunks are missing": lambda client: client.delete("job:chunks:2"),
    "a chunk is shorter": lambda client: client.hset("job:chunks:2", "1.0", b"x"),
    "a bit has flipped": flip_a_bit,
    "chunks are swapped": lambda client: client.hset("job:chunks:2", "0.0", client.hget("job:chunks:2", "1.0")),
    "the record is missing": lambda client: client.hdel("job:records", 2),
    "the record is another's": lambda client: client.hset("job:records", 2, client.hget("job:records", 1)),
    "the record is cut off": lambda client: client.hset("job:records", 2, client.hget("job:records", 2)[:-80]),
    "a bit of the record has flipped": lambda client: client.hset(
        "job:records", 2, client.hget("job:records", 2).replace(b"second", b"sfcond")
    ),
    "the chunks are no hash": lambda client: (client.delete("job:chunks:2"), client.set("job:chunks:2", "x")),
    "the number is none": lambda client: client.zadd("job:generations", {"x": 9}),
    "the number has another score": lambda client: client.zadd("job:generations", {"2": 2.5}),
    "the number is infinite": lambda client: client.zadd("job:generations", {"2": float("inf")}),
}


FORGERIES = ["the record is another's"]


@pytest.mark.parametrize(
    ("damage", "signing_key"),
    [*((damage, None) for damage in DAMAGES), *((damage, KEY) for damage in DAMAGES if damage not in FORGERIES)],
)
def test_a_broken_generation_goes_to_quarantine_and_the_one_before_it_is_used(
    server: RedisServer, damage: str, signing_key: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = server.checkpoints(signing_key=signing_key)
    checkpoints.save(frozen({"first": 1, "second": "a"}))
    if damage != "the number is none":
        checkpoints.save(frozen({"first": 2, "second": "b"}))
    DAMAGES[damage](server.client)
    assert thawed(checkpoints.newest()) == {"first": 1, "second": "a"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "in quarantine" in caplog.text
    assert "on 127.0.0.1" in caplog.text
    assert server.generations() == [1]
    assert server.client.hlen("job:quarantine") >= 1
    assert server.lasting_chunks() == [1]
    caplog.clear()
    checkpoints.save(frozen({"first": 3, "second": "c"}))
    assert thawed(checkpoints.newest()) == {"first": 3, "second": "c"}
    assert not caplog.records


def test_with_all_generations_broken_there_is_none(server: RedisServer) -> None:
    checkpoints = server.checkpoints()
    for count in range(3):
        checkpoints.save(frozen({"count": count}))
    server.client.delete("job:records")
    assert checkpoints.newest() is None


def test_a_generation_of_a_newer_release_is_refused_by_name_and_left_alone(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sucrose.state.remote.upload.RECORD_VERSION", 2)
    server.checkpoints().save(frozen({"count": 1}))
    with pytest.raises(FormatVersionError, match="format version 2, this release reads 1"):
        server.checkpoints().newest()
    assert server.generations() == [1]


def test_another_program_s_keys_are_left_alone(server: RedisServer) -> None:
    server.client.set("job:generations", "mine")
    with pytest.raises(CorruptionError, match="choose another job_id"):
        server.checkpoints().newest()
    with pytest.raises(CorruptionError, match="choose another job_id"):
        server.checkpoints().save(frozen({"count": 1}))
    assert server.client.get("job:generations") == b"mine"


def test_a_state_s_name_that_is_no_text_is_refused_before_anything_is_sent(server: RedisServer) -> None:
    with pytest.raises(UnsupportedError) as caught:
        server.checkpoints().save({"\ud800": freeze(1, "key")})
    assert caught.value.key == "\ud800"
    assert server.client.dbsize() == 0


def test_settings_name_the_server(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Settings(
        type="remote", job_id="job", ckpt_service_endpoint="localhost", ckpt_service_port=server.port, keep_last=1
    )
    monkeypatch.setenv("SUCROSE_SIGNING_KEY", KEY.decode())
    for count in range(3):
        RemoteCheckpoints.from_settings(chosen).save(frozen({"custom": Custom(count)}))
    assert thawed(RemoteCheckpoints.from_settings(chosen).newest()) == {"custom": Custom(2)}
    assert server.generations() == [3]


@pytest.mark.parametrize(
    ("given_settings", "missing"),
    [({}, "job_id"), ({"job_id": "job"}, "ckpt_service_endpoint"), ({"ckpt_service_endpoint": "host"}, "job_id")],
)
def test_a_missing_setting_is_named(given_settings: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigError, match=f"needs {missing}: set LATTICE_CHECKPOINT_CONFIG"):
        RemoteCheckpoints.from_settings(Settings(type="remote", **given_settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "redis://host"},
        {"endpoint": "host:6379"},
        {"port": 0},
        {"port": 65536},
        {"keep_last": 0},
        {"timeout_s": 0.0},
        {"connect_timeout_s": -1.0},
        {"signing_key": b"short"},
    ],
)
def test_a_malformed_argument_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RemoteCheckpoints(**{"job_id": "job", "endpoint": "host", "port": 6379, **wrong})


def test_without_the_client_s_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'torch-sucrose\[remote\]'"):
        RemoteCheckpoints("job", "host", 6379)


def test_a_generation_that_is_replaced_again_and_again_while_it_is_read_ends_in_an_error(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sucrose.state.remote.download import Download

    writer = server.checkpoints(keep_last=1)
    writer.save(frozen({"count": 0}))
    read = Download.read

    def overtaken(download: Download, number: int) -> Any:
        writer.save(frozen({"count": number}))
        return read(download, number)

    monkeypatch.setattr(Download, "read", overtaken)
    with pytest.raises(StorageError, match="faster than they can be read"):
        server.checkpoints().newest()
    assert not server.client.exists("job:quarantine")

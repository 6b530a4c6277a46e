"""What the server has may come from anybody: nothing of it runs, takes much memory or ends in a strange error."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_server import RedisServer

from sucrose.errors import CorruptionError, FormatVersionError, UnsafeObjectError, UnsupportedError
from sucrose.state.remote import chunks
from sucrose.state.remote.record import MAX_RECORD_NBYTES, GenerationRecord, decode_record
from sucrose.state.remote.signature import record_signer
from sucrose.state.values import FrozenState, freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = b"a key of sixteen bytes or more"
OTHER_KEY = b"another key, as long as it has to be"
OUR_ERRORS = (CorruptionError, FormatVersionError)


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture
def server(running_server: RedisServer) -> RedisServer:
    running_server.client.flushall()
    return running_server


class RunsCode:
    """Its pickle makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def with_digest(line: bytes, signature: bytes = b"unsigned") -> bytes:
    return b"\n".join([line, hashlib.sha256(line).hexdigest().encode(), signature, b""])


def record_of(server: RedisServer, number: int = 1, job: str = "job") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(server.client.hget(f"{job}:records", number).split(b"\n")[0])
    return loaded


def test_without_a_signing_key_a_pickle_that_runs_code_is_refused_with_the_reason(
    server: RedisServer, tmp_path: Path
) -> None:
    checkpoints = server.checkpoints()
    checkpoints.save({"evil": freeze(RunsCode(tmp_path / "made"), "evil"), "plain": freeze(torch.ones(2), "plain")})
    saved = checkpoints.newest()
    assert saved is not None
    assert saved.distrust is not None
    with pytest.raises(UnsafeObjectError, match="set SUCROSE_SIGNING_KEY in all programs of the job") as caught:
        thaw(saved.read("evil"), key="evil", source=checkpoints.where, distrust=saved.distrust)
    assert caught.value.key == "evil"
    assert not (tmp_path / "made").exists()
    plain = thaw(saved.read("plain"), key="plain", source=checkpoints.where, distrust=saved.distrust)
    assert plain.tolist() == [1, 1]


def test_a_program_without_the_key_trusts_no_signed_record_either(server: RedisServer) -> None:
    server.checkpoints(signing_key=KEY).save({"a": freeze(1, "a")})
    saved = server.checkpoints().newest()
    assert saved is not None
    assert saved.distrust is not None


@pytest.mark.parametrize("writer_key", [None, OTHER_KEY], ids=["unsigned", "with another key"])
def test_with_a_key_what_it_has_not_signed_is_refused_and_neither_skipped_nor_set_aside(
    server: RedisServer, writer_key: bytes | None
) -> None:
    server.checkpoints(signing_key=KEY).save({"a": freeze(1, "a")})
    server.checkpoints(signing_key=writer_key).save({"a": freeze(2, "a")})
    with pytest.raises(UnsafeObjectError, match=r"generation 2 of job 'job' on .* is (not )?signed"):
        server.checkpoints(signing_key=KEY).newest()
    assert server.generations() == [1, 2]


def test_a_signature_covers_the_job_the_number_and_every_byte(server: RedisServer) -> None:
    client = server.client
    for job in ("job", "other"):
        server.checkpoints(job, signing_key=KEY).save({"a": freeze(job, "a")})
    server.checkpoints(signing_key=KEY).save({"a": freeze("second", "a")})
    genuine = client.hget("job:records", 2)

    line, _, signature, _ = genuine.split(b"\n")
    forged = with_digest(line.replace(b'"a"', b'"b"'), signature)
    replayed = {"of another job": client.hget("other:records", 1), "of another number": client.hget("job:records", 1)}
    for what, record in {"with another name": forged, **replayed}.items():
        client.hset("job:records", 2, record)
        with pytest.raises(UnsafeObjectError):
            server.checkpoints(signing_key=KEY).newest()
        assert server.generations() == [1, 2], what

    client.hset("job:records", 2, genuine)
    client.hset("job:chunks:2", "0.0", freeze("sekond", "a").pickled)
    saved = server.checkpoints(signing_key=KEY).newest()  # a digest tells, so that this is damage like any other
    assert saved is not None
    assert thaw(saved.read("a"), key="a", source="the server", distrust=None) == "job"


def test_a_record_beyond_all_measure_is_not_even_fetched(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.checkpoints().save({"a": freeze(1, "a")})
    server.checkpoints().save({"a": freeze(2, "a")})
    monkeypatch.setattr("sucrose.state.remote.download.MAX_RECORD_NBYTES", 2000)
    assert MAX_RECORD_NBYTES > 1 << 20
    server.client.hset("job:records", 2, b"x" * 2001)
    saved = server.checkpoints().newest()
    assert saved is not None
    assert "has 2001 bytes, which no save writes" in caplog.text


@given(value=st.binary(max_size=200) | st.binary(max_size=200).map(with_digest))
def test_any_bytes_are_a_clean_error(value: bytes) -> None:
    with pytest.raises(OUR_ERRORS):
        decode_record(value, None, job="job", generation=1, where="here")
    with pytest.raises((*OUR_ERRORS, UnsafeObjectError)):
        decode_record(value, record_signer(KEY), job="job", generation=1, where="here")


def test_deep_nesting_is_a_clean_error() -> None:
    for line in (b"[" * 200_000, b'{"format_version":1,"states":' + b'{"a":' * 100_000):
        with pytest.raises(CorruptionError):
            decode_record(with_digest(line), None, job="job", generation=1, where="here")


SIZES = st.integers(-(1 << 70), 1 << 70) | st.sampled_from([0, 1, 4 << 20, (4 << 20) + 1, 1 << 50, 1 << 63])
SCRAMBLED = st.none() | SIZES | st.floats(allow_nan=False) | st.text(max_size=3) | st.lists(SIZES, max_size=3)
STATES = st.fixed_dictionaries(
    {"pickle_nbytes": SIZES | SCRAMBLED, "storage_nbytes": st.lists(SIZES, max_size=3) | SCRAMBLED},
    optional={"digests": st.text("0123456789abcdefg", max_size=3) | st.integers(0, 4).map(lambda n: "0" * 64 * n)},
)


@given(
    changes=st.dictionaries(
        st.sampled_from(["format_version", "job", "generation", "written_ns", "digest", "chunk_nbytes", "states"]),
        SCRAMBLED | st.dictionaries(st.text(max_size=2), STATES, max_size=3),
        max_size=3,
    ),
    state_changes=st.dictionaries(
        st.sampled_from(["pickle_nbytes", "storage_nbytes", "digests"]), SIZES | SCRAMBLED, max_size=2
    ),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_hostile_record_is_quarantined_and_costs_no_more_memory_than_it_has_bytes(
    server: RedisServer, changes: dict[str, Any], state_changes: dict[str, Any]
) -> None:
    server.client.flushall()
    checkpoints = server.checkpoints()
    checkpoints.save({"tensor": freeze(torch.ones(1000, dtype=torch.uint8), "tensor")})
    checkpoints.save({"tensor": freeze(torch.full((1000,), 2, dtype=torch.uint8), "tensor")})
    record = record_of(server, 2)
    record["states"]["tensor"].update(state_changes)
    record.update(changes)
    server.client.hset("job:records", 2, with_digest(json.dumps(record).encode()))
    allocated = []
    new_storage = chunks._new_storage

    def counting(nbytes: int) -> torch.UntypedStorage:
        allocated.append(nbytes)
        return new_storage(nbytes)

    chunks._new_storage = counting  # the fixture that patches would outlive the example
    try:
        saved = checkpoints.newest()
        if saved is not None:
            for key in saved.keys():  # noqa: SIM118 - no mapping
                assert isinstance(saved.read(key), FrozenState)
    except FormatVersionError:
        assert {"format_version", "digest", "chunk_nbytes"} & set(changes)
    finally:
        chunks._new_storage = new_storage
    assert sum(allocated) <= 10_000


def test_states_whose_digests_are_those_of_another_state_are_damage(server: RedisServer) -> None:
    """Overlapping contents: two states that claim the chunks of one."""
    checkpoints = server.checkpoints()
    checkpoints.save({"a": freeze(1, "a"), "b": freeze(22, "b")})
    record = record_of(server)
    record["states"]["b"] = record["states"]["a"]
    server.client.hset("job:records", 1, with_digest(json.dumps(record).encode()))
    assert checkpoints.newest() is None


def test_more_storages_than_any_program_has_are_refused() -> None:
    record = GenerationRecord(
        format_version=1,
        writer="somebody",
        job="job",
        generation=1,
        written_ns=0,
        digest="sha256",
        chunk_nbytes=4 << 20,
        states={"a": chunks.StateRecord(0, [0] * (1 << 20), ""), "b": chunks.StateRecord(0, [0], "")},
    )
    with pytest.raises(CorruptionError, match="1048577 tensors"):
        decode_record(with_digest(msgspec.json.encode(record)), None, job="job", generation=1, where="here")


def test_what_could_not_be_read_again_is_not_saved(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = server.checkpoints()
    checkpoints.save({"a": freeze(1, "a")})
    monkeypatch.setattr("sucrose.state.remote.record.MAX_STORAGES", 2)
    with pytest.raises(UnsupportedError, match="3 tensors with memory of their own; at most 2 are allowed"):
        checkpoints.save({"a": freeze([torch.ones(1), torch.ones(1)], "a"), "b": freeze(torch.ones(1), "b")})
    monkeypatch.setattr("sucrose.state.remote.record.MAX_RECORD_NBYTES", 1000)
    with pytest.raises(UnsupportedError, match="at most 1000 are allowed"):
        checkpoints.save({"a" * 1000: freeze(2, "a")})
    assert server.generations() == server.lasting_chunks() == [1]
    assert server.client.keys("job:chunks:*") == [b"job:chunks:1"]


def test_a_tensor_that_no_memory_is_left_for_is_a_clear_error(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(nbytes: int) -> torch.UntypedStorage:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    checkpoints = server.checkpoints()
    checkpoints.save({"a": freeze(torch.ones(3), "a")})
    monkeypatch.setattr(chunks, "_new_storage", refuse)
    with pytest.raises(OSError, match="no memory for a tensor of 12 bytes"):
        checkpoints.newest()
    assert server.generations() == [1]

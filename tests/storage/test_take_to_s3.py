"""Snapshots on a real S3 server: whole, through a bad network, of a program that is killed, and of two ranks."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from faulty_proxy import FaultyProxy
from ranks import run_ranks, values_of
from s3_server import BUCKET, S3Server
from warm_python import WarmPython

from sucrose import Snapshot, StateDict
from sucrose.errors import CancelledError, RankError, StorageError
from sucrose.storage.objects import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PART = 5 << 20  # S3 takes no smaller ones
QUICK: dict[str, Any] = {"part_nbytes": PART, "backoff_s": 0.01, "concurrency": 4}


@pytest.fixture
def url() -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/step_1"


@pytest.fixture
def options(s3_server: S3Server) -> dict[str, Any]:
    return s3_server.storage_options(**QUICK)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(s3_server.port)
    yield proxy
    proxy.close()


def state_of(seed: int) -> dict[str, StateDict]:
    weights = torch.randn(3 * PART // 4, generator=torch.Generator().manual_seed(seed))
    return {"state": StateDict(weights=weights, pair=(seed, "a tuple"), step=seed)}


def assert_restores(url: str, options: dict[str, Any], seed: int) -> None:
    restored = state_of(0)
    Snapshot(url, storage_options=options).restore(restored)
    assert_same(dict(restored["state"]), dict(state_of(seed)["state"]))


def names_at(url: str, options: dict[str, Any]) -> list[str]:
    with open_storage(url, options) as storage:
        assert list(storage.abandoned_uploads(0)) == []
        return sorted(found.name for found in storage.list())


def test_a_snapshot_is_taken_replaced_and_restored_bit_for_bit(url: str, options: dict[str, Any]) -> None:
    Snapshot.take(url, state_of(1), storage_options=options)
    assert_restores(url, options, 1)
    with pytest.raises(FileExistsError):
        Snapshot.take(url, state_of(2), storage_options=options)
    pending = Snapshot.async_take(url, state_of(3), storage_options=options, overwrite=True, compression="zstd")
    snapshot = pending.wait()
    assert pending.progress()[0] == pending.progress()[1] > 3 * PART
    assert snapshot.verify()
    assert_restores(url, options, 3)
    assert len(names_at(url, options)) == 4


def test_a_bad_network_is_overcome(url: str, options: dict[str, Any], proxy: FaultyProxy) -> None:
    faults = [
        proxy.inject("PUT", "partNumber", status=500, times=2),
        proxy.inject("PUT", "partNumber", upload_nbytes=100_000, times=2),
        proxy.inject("PUT", "partNumber", upload_nbytes=100_000, stall=True),
        proxy.inject("PUT", "partNumber", lose_answer=True, times=2),
        proxy.inject("POST", "uploadId", lose_answer=True),
        proxy.inject("PUT", "partNumber", delay_s=0.3, times=2),
        proxy.inject("PUT", "/objects/", status=429),
        proxy.inject("PUT", ".snapshot_index", status=503, times=2),
        proxy.inject("PUT", ".snapshot_metadata", lose_answer=True),
    ]
    through = {**options, "endpoint": proxy.endpoint, "stall_timeout_s": 1.0, "attempts": 10}
    Snapshot.take(url, state_of(1), storage_options=through)
    assert [fault.hits for fault in faults] == [fault.times for fault in faults]
    assert_restores(url, options, 1)
    assert len(names_at(url, options)) == 4


def test_a_network_that_stays_bad_fails_the_take_and_leaves_nothing(
    url: str, options: dict[str, Any], proxy: FaultyProxy
) -> None:
    Snapshot.take(url, state_of(1), storage_options=options)
    before = names_at(url, options)
    proxy.inject("PUT", "partNumber=2", status=500, times=100)
    through = {**options, "endpoint": proxy.endpoint, "attempts": 2}
    with pytest.raises(StorageError) as raised:
        Snapshot.take(url, state_of(2), storage_options=through, overwrite=True)
    assert str(raised.value.path).startswith(url)
    assert names_at(url, options) == before
    assert_restores(url, options, 1)


def test_a_take_is_cancelled_while_the_network_stands_still(
    url: str, options: dict[str, Any], proxy: FaultyProxy
) -> None:
    fault = proxy.inject("PUT", "partNumber", upload_nbytes=1000, stall=True, times=100)
    through = {**options, "endpoint": proxy.endpoint}
    pending = Snapshot.async_take(url, state_of(1), storage_options=through)
    while not fault.hits:
        pending.done()
    assert pending.cancel()  # at once, and not after the minute until the stall is noticed
    with pytest.raises(CancelledError):
        pending.wait()
    assert names_at(url, options) == []
    assert not any(thread.name == "sucrose-send" and thread.is_alive() for thread in _after_a_while())


def _after_a_while() -> list[threading.Thread]:
    for thread in threading.enumerate():
        if thread.name in ("sucrose-send", "sucrose-upload"):
            thread.join(60)
    return threading.enumerate()


KILLED = textwrap.dedent("""
    import json, os, signal, sys, threading
    import torch
    from sucrose import Snapshot, StateDict
    from sucrose.storage.objects.s3 import S3Backend

    url, options, how = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    put_part, begun = S3Backend.put_part, threading.Event()

    def part(self, key, upload_id, number, data):
        if how == "killed" and number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = put_part(self, key, upload_id, number, data)
        begun.set()
        return answer

    S3Backend.put_part = part
    weights = torch.randn(15 * 2**20 // 4, generator=torch.Generator().manual_seed(2))
    state = {"state": StateDict(weights=weights, pair=(2, "a tuple"), step=2)}
    pending = Snapshot.async_take(url, state, storage_options=options, overwrite=True)
    begun.wait(60)
    if how == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    # "left": the program falls off its end
""")


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    warm = WarmPython()
    yield warm
    warm.close()


def test_a_program_that_is_killed_in_the_middle_leaves_the_old_snapshot_and_the_next_one_cleans_up(
    url: str, options: dict[str, Any], python: WarmPython
) -> None:
    Snapshot.take(url, state_of(1), storage_options=options)
    killed = python.run(KILLED, [url, json.dumps(options), "killed"], os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_restores(url, options, 1)
    with open_storage(url, options) as storage:
        assert [found.name.rpartition("/")[2] for found in storage.abandoned_uploads(0)] == ["0_0.safetensors"]
    Snapshot.take(url, state_of(3), storage_options={**options, "abandoned_after_s": 0}, overwrite=True)
    assert_restores(url, options, 3)
    assert len(names_at(url, options)) == 4


@pytest.mark.parametrize(("how", "status"), [("left", 0), ("interrupted", -signal.SIGINT)])
def test_a_program_that_ends_commits_what_it_has_begun(
    url: str, options: dict[str, Any], python: WarmPython, how: str, status: int
) -> None:
    Snapshot.take(url, state_of(1), storage_options=options)
    ended = python.run(KILLED, [url, json.dumps(options), how], os.environ)
    assert ended.returncode == status, ended.stderr
    assert_restores(url, options, 2)
    assert len(names_at(url, options)) == 4


def save_on_ranks(rank: int, world_size: int, url: str, options: dict[str, Any], how: str) -> Any:
    """Takes a snapshot, replaces it, in the middle of which a rank may die, and restores what is there."""
    import torch

    from sucrose import Snapshot, StateDict
    from sucrose.snapshot.places.staged_objects import StagedObjects
    from sucrose.snapshot.remote import uploading

    mine = torch.full((1_500_000,), float(rank))
    state = StateDict(mine=mine, same=torch.arange(2_000_000), pair=(rank, "a tuple"))
    take = {"replicated": ["state/same"], "storage_options": options}
    Snapshot.take(url, {"state": state}, **take)
    original, commit = uploading.UploadTicket._send, StagedObjects.commit

    def send(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        point("sent")  # noqa: F821  # run_ranks has it

    def commit_and_come(self: Any, *arguments: Any, **keywords: Any) -> None:
        commit(self, *arguments, **keywords)
        point("committed")  # noqa: F821

    uploading.UploadTicket._send = send
    StagedObjects.commit = commit_and_come
    state["mine"] += 10
    Snapshot.take(url if rank == 0 else url + "/", {"state": state}, overwrite=True, **take)
    state["mine"].zero_()
    if how == "all":
        Snapshot(url, storage_options=options).restore({"state": state})
    return state["mine"].unique().tolist(), state["pair"]


def test_two_ranks_take_one_snapshot_and_replace_it(url: str, options: dict[str, Any], tmp_path: Path) -> None:
    outcomes = run_ranks(2, save_on_ranks, tmp_path, arguments=[url, options, "all"])
    assert values_of(outcomes) == [([10.0], (0, "a tuple")), ([11.0], (1, "a tuple"))]
    names = names_at(url, options)
    assert len({name.split("/")[1] for name in names if "/" in name}) == 1, names
    assert len(names) == 6


@pytest.mark.parametrize(("dead", "place", "then"), [(1, "sent", 0), (0, "committed", 10)])
def test_after_the_death_of_a_rank_the_old_snapshot_is_there_unless_the_new_one_was_committed(
    url: str, options: dict[str, Any], tmp_path: Path, dead: int, place: str, then: int
) -> None:
    outcomes = run_ranks(
        2, save_on_ranks, tmp_path, arguments=[url, options, "one dies"], kills={dead: place}, store="torchrun",
        environment={"SUCROSE_RANK_TIMEOUT_S": "2"},
    )  # fmt: skip
    assert outcomes[dead].status == -signal.SIGKILL
    if then:
        assert values_of([outcomes[1 - dead]]) == [([0.0], (1 - dead, "a tuple"))]
    else:
        assert isinstance(outcomes[1 - dead].error, RankError)
    snapshot = Snapshot(url, storage_options=options)
    assert snapshot.verify()
    assert [snapshot.read_object(f"{rank}/state/mine").unique().tolist() for rank in (0, 1)] == [[then], [then + 1]]

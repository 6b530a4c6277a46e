"""Restoring from S3, over connections that fail: the state is whole, or there is an error, and nobody hangs."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bitwise import assert_same
from faulty_proxy import Fault, FaultyProxy
from ranks import run_ranks
from s3_server import BUCKET, S3Server
from stored_folders import put_folder, rename_to_digests, threads_that_stay
from warm_python import WarmPython

from sucrose import Snapshot, StateDict
from sucrose.errors import AccessDeniedError, IncompleteSnapshotError, StorageError, StorageTimeoutError
from sucrose.storage.objects import open_storage

GOLDEN = Path(__file__).parents[1] / "golden"
SOURCES = str(Path(__file__).parents[2] / "python")
DATA = "data/0_0.safetensors"

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per_tensor")


def state() -> dict[str, StateDict]:
    generator = torch.Generator().manual_seed(7)
    return {
        "model": StateDict(weight=torch.randn(3_000, 1_000, generator=generator), name="a model"),
        "rest": StateDict({f"object{number}": {number} for number in range(20)}),
    }


@pytest.fixture(scope="module")
def folder(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path in the bucket of a snapshot of `state()`."""
    path = tmp_path_factory.mktemp("local") / "s"
    Snapshot.take(path, state())
    return put(path, s3_server)


def put(path: Path, server: S3Server) -> str:
    folder = f"{uuid.uuid4().hex}/s"
    with open_storage(f"s3://{BUCKET}/{folder}", server.storage_options()) as storage:
        put_folder(storage, path)
        rename_to_digests(storage)
    return folder


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(s3_server.port)
    yield proxy
    proxy.close()
    assert not threads_that_stay()


def snapshot_behind(proxy: FaultyProxy, server: S3Server, folder: str, **options: Any) -> Snapshot:
    quick = {"backoff_s": 0.01, **options, "endpoint": proxy.endpoint}
    return Snapshot(f"s3://{BUCKET}/{folder}", storage_options=server.storage_options(**quick))


def assert_restores(snapshot: Snapshot) -> None:
    target = {"model": StateDict(weight=torch.zeros(3_000, 1_000), name=""), "rest": StateDict()}
    snapshot.restore(target)
    for key, value in state().items():
        assert_same(dict(target[key]), dict(value), key)


@pytest.mark.parametrize("sample", ["format_2", "torchsnapshot_0.1.0"])
def test_a_golden_sample_restores_from_s3(s3_server: S3Server, sample: str) -> None:
    folder = uuid.uuid4().hex
    with open_storage(f"s3://{BUCKET}/{folder}", s3_server.storage_options()) as storage:
        put_folder(storage, GOLDEN / sample)
    there = Snapshot(f"s3://{BUCKET}/{folder}/snapshot", storage_options=s3_server.storage_options())
    here = Snapshot(GOLDEN / sample / "snapshot")
    keys = sorted({path.split("/")[1] for path in here.get_manifest() if path.count("/") == 1})
    for key in keys:
        assert_same(there.get_state_dict_for_key(key), here.get_state_dict_for_key(key), key)
    assert sample != "format_2" or there.verify()


def test_a_snapshot_of_torchsnapshots_restores_on_other_ranks(s3_server: S3Server, tmp_path: Path) -> None:
    folder = put(GOLDEN / "several_ranks" / "torchsnapshot_0.1.0_on_4" / "snapshot", s3_server)
    arguments = [f"s3://{BUCKET}/{folder}", s3_server.storage_options()]
    outcomes = run_ranks(2, restored_table, tmp_path, arguments=arguments)
    assert [outcome.error for outcome in outcomes] == [None, None]
    rows = torch.arange(40.0).view(10, 4) / 11
    assert [outcome.value for outcome in outcomes] == [
        (rows[begin : begin + 5].tolist(), torch.arange(6.0).view(2, 3).tolist(), 7) for begin in (0, 5)
    ]


def restored_table(rank: int, world_size: int, url: str, options: dict[str, Any]) -> Any:
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    from sucrose import Snapshot, StateDict

    mesh = init_device_mesh("cpu", (world_size,))
    table = StateDict(value=distribute_tensor(torch.zeros(10, 4), mesh, [Shard(0)]))
    equal = StateDict(weight=torch.zeros(2, 3), name="", step=0, inner={"bias": torch.zeros(4)})
    Snapshot(url, storage_options=options).restore({"table": table, "equal": equal})
    return table["value"].to_local().tolist(), equal["weight"].tolist(), equal["step"]


@pytest.mark.parametrize(
    "what",
    [
        {"status": 500, "times": 3},
        {"status": 503, "times": 3, "headers": {"Retry-After": "0"}},
        {"download_nbytes": 100, "times": 3},
        {"lose_answer": True, "times": 3},
        {"download_nbytes": 100, "stall": True},
    ],
    ids=["errors", "throttling", "short bodies", "lost answers", "a stall"],
)
def test_a_restore_gets_over_requests_that_fail(
    proxy: FaultyProxy, s3_server: S3Server, folder: str, what: dict[str, Any]
) -> None:
    faults = [proxy.inject("GET", query, **what) for query in (DATA, "/objects/", ".snapshot_index", "list-type=2")]
    assert_restores(snapshot_behind(proxy, s3_server, folder, stall_timeout_s=1.0, answer_timeout_s=1.0))
    assert all(fault.hits == fault.times for fault in faults[:3])


@pytest.mark.parametrize("status", [500, 403])
def test_a_restore_whose_requests_fail_for_good_is_an_error_that_names_the_object(
    proxy: FaultyProxy, s3_server: S3Server, folder: str, status: int
) -> None:
    proxy.inject("GET", DATA, status=status, times=1000)
    with pytest.raises(StorageError) as raised:
        assert_restores(snapshot_behind(proxy, s3_server, folder, attempts=3))
    assert raised.value.path == f"s3://{BUCKET}/{folder}/{DATA}"
    assert isinstance(raised.value, AccessDeniedError) == (status == 403)


def test_a_store_that_never_answers_is_no_damage(proxy: FaultyProxy, s3_server: S3Server, folder: str) -> None:
    proxy.inject("GET", DATA, download_nbytes=10, stall=True, times=1000)
    snapshot = snapshot_behind(proxy, s3_server, folder, attempts=2, stall_timeout_s=0.3)
    with pytest.raises(StorageTimeoutError):
        snapshot.verify()
    with pytest.raises(StorageTimeoutError):
        snapshot.read_object("0/model/weight")


def test_one_who_may_read_and_not_list_restores(proxy: FaultyProxy, s3_server: S3Server, folder: str) -> None:
    listing = proxy.inject("GET", "list-type=2", status=403, times=1000)
    assert_restores(snapshot_behind(proxy, s3_server, folder))
    assert listing.hits


def test_a_missing_snapshot_is_incomplete_and_wrong_credentials_are_no_missing_snapshot(s3_server: S3Server) -> None:
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    with pytest.raises(IncompleteSnapshotError) as raised:
        _ = Snapshot(url, storage_options=s3_server.storage_options()).metadata
    assert raised.value.path == url
    with pytest.raises(AccessDeniedError):
        _ = Snapshot(url, storage_options=s3_server.storage_options(secret="another")).metadata


def test_control_c_ends_a_restore_from_a_store_that_has_stalled(
    proxy: FaultyProxy, s3_server: S3Server, folder: str
) -> None:
    fault = proxy.inject("GET", DATA, download_nbytes=10, stall=True, times=1000)
    snapshot = snapshot_behind(proxy, s3_server, folder, stall_timeout_s=600.0)

    def press() -> None:
        wait_for(fault)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        assert_restores(snapshot)
    presser.join()


def wait_for(fault: Fault) -> None:
    deadline = time.monotonic() + 60
    while not fault.hits and time.monotonic() < deadline:
        time.sleep(0.01)


_PROGRAM = f"""
import json, sys, threading
sys.path.insert(0, {SOURCES!r})
import torch
from sucrose import Snapshot
snapshot = Snapshot(sys.argv[1], storage_options=json.loads(sys.argv[2]))
threading.Thread(target=snapshot.read_object, args=("0/model/weight",), daemon=True).start()
print("begun", flush=True)
import time
while not any(thread.name == "sucrose-download" for thread in threading.enumerate()):
    time.sleep(0.01)
time.sleep(0.2)
"""


def test_a_program_ends_while_another_thread_restores_from_a_store_that_has_stalled(
    proxy: FaultyProxy, s3_server: S3Server, folder: str
) -> None:
    proxy.inject("GET", DATA, download_nbytes=10, stall=True, times=1000)
    options = s3_server.storage_options(endpoint=proxy.endpoint, stall_timeout_s=600.0)
    python = WarmPython()
    try:
        arguments = [f"s3://{BUCKET}/{folder}", json.dumps(options)]
        ended = python.run(_PROGRAM, arguments, dict(os.environ), timeout_s=120)
    finally:
        python.close()
    assert ended.returncode == 0
    assert "InterruptedError" in ended.stderr, "what that thread has raised is all that is printed"

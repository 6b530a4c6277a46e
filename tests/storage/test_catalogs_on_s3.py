"""Catalogs and states on S3: many generations, several programs, and programs that end in every way."""

from __future__ import annotations

import os
import signal
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import torch
from s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server
from warm_python import RunningProgram, WarmPython

from sucrose import Catalog, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.catalog.objects.folders import folder_names
from sucrose.errors import StorageError
from sucrose.formats.manifest import METADATA_FILE
from sucrose.snapshot.remote.side_by_side import side_by_side
from sucrose.state.object_store import ObjectStoreCheckpoints
from sucrose.storage.objects import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.any_backend

PATIENCE_S = 60.0
SIGNED = {"SUCROSE_SIGNING_KEY": "a signing key of the tests"}
WARM_PYTHON = WarmPython("import torch, s3fs, sucrose.state.group, sucrose.state.object_store, sucrose.catalog.catalog")


def state(value: float = 0.0) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((1000,), float(value)))}


@pytest.fixture
def root() -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/run"


@pytest.fixture(autouse=True, scope="module")
def python_ends_with_this_file() -> Iterator[None]:
    yield
    WARM_PYTHON.close()


def start(code: str, root: str, server: S3Server, *, settings: str = "", **environment: str) -> RunningProgram:
    """Begins to run a program with states at `root`; the server is known to it by a name, as servers are."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LATTICE_", "AWS_"))}
    given = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": f"http://localhost:{server.port}",
        "LATTICE_CHECKPOINT_TYPE": "s3",
        "LATTICE_CHECKPOINT_CONFIG": f"root={root}{settings}",
    }
    return WARM_PYTHON.start(code, [root], {**clean, **given, **environment})


def test_generations_are_saved_restored_and_collected(s3_server: S3Server, root: str) -> None:
    catalog = Catalog(root, keep_last=2, storage_options=s3_server.storage_options())
    for step in range(4):
        catalog.async_save(step, state(step), metrics={"loss": 1.0}).wait(PATIENCE_S)
    catalog.pin(2)
    found = state()
    assert catalog.restore_latest(found) == catalog.latest(verify=True)
    assert found["state"]["tensor"].eq(3).all()
    assert COLLECTOR.wait_idle(PATIENCE_S)
    catalog.save(4, state(4))
    assert COLLECTOR.wait_idle(PATIENCE_S)
    assert catalog.steps() == [2, 3, 4]
    with open_storage(root, s3_server.storage_options()) as storage:
        assert {file.name.split("-")[0] for file in storage.list("step_")} == {"step_2", "step_3", "step_4"}
        [data] = [file.name for file in storage.list("step_4") if file.name.endswith("safetensors")]
        storage.delete([data])
    assert catalog.restore_latest(found) is not None
    assert found["state"]["value"] == 3
    assert [quarantined.name.split("-")[0] for quarantined in catalog.quarantined()] == ["step_4"]


def test_more_folders_than_a_listing_of_s3_has_are_all_found(s3_server: S3Server, root: str) -> None:
    names = [f"step_{step}-{step:08x}" for step in range(1005)]
    with open_storage(root, s3_server.storage_options()) as storage:
        side_by_side(lambda name: storage.put(f"{name}/{METADATA_FILE}", b"{}"), names, 8)
        assert sorted(folder_names(storage)) == sorted(names)


def test_a_wrong_key_is_an_error_and_no_empty_catalog(s3_server: S3Server, root: str) -> None:
    options = {**s3_server.storage_options(), "secret": "wrong"}
    with pytest.raises(PermissionError) as caught:
        Catalog(root, storage_options=options).latest()
    assert isinstance(caught.value, StorageError)
    assert "wrong" not in str(caught.value)
    with pytest.raises(PermissionError, match="root="):
        ObjectStoreCheckpoints(root, keep_last=None, storage_options=options)


SAVING_SIDE_BY_SIDE = """
import os, sys, traceback
import torch
from sucrose import Catalog, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.catalog.objects.folders import folder_names
root = sys.argv[1]

def work(number):
    catalog = Catalog(root, keep_last=2)
    found = {"state": StateDict(value=0, tensor=torch.zeros(1000))}
    for step in range(2):
        value = 100 * number + step
        catalog.save(step, {"state": StateDict(value=value, tensor=torch.full((1000,), float(value)))})
        assert catalog.restore_latest(found) is not None
        assert found["state"]["tensor"].eq(found["state"]["value"]).all()
    assert COLLECTOR.wait_idle(60)
    assert not catalog.quarantined()

children = []
for number in (1, 2):
    child = os.fork()
    if child == 0:
        try:
            work(number)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
"""


def test_two_programs_save_restore_and_collect_in_one_folder(s3_server: S3Server, root: str) -> None:
    done = start(SAVING_SIDE_BY_SIDE, root, s3_server).wait(PATIENCE_S)
    assert done.returncode == 0, done.stderr
    catalog = Catalog(root, keep_last=2, storage_options=s3_server.storage_options())
    catalog.collect()
    assert all(generation.snapshot().verify() for generation in catalog.generations())
    assert len(catalog.generations()) == 2


PROGRAM = """
import os, signal, sys, time
from sucrose.state.group import StateManagerGroup

class Progress:  # of the program's own: it needs the signature
    step = 0

group = StateManagerGroup()
group.register("progress")
progress = group.get("progress") or Progress()
group.update("progress", progress)
print("found", progress.step, flush=True)
"""


def run(code: str, root: str, server: S3Server, *, status: int, settings: str = "") -> str:
    done = start(PROGRAM + code, root, server, settings=settings, **SIGNED).wait(PATIENCE_S)
    assert done.returncode == status, done.stderr
    return done.stdout


def test_states_are_saved_however_a_program_ends_and_found_when_it_is_started_again(
    s3_server: S3Server, root: str
) -> None:
    assert "found 0\n" in run("progress.step = 1", root, s3_server, status=0)
    assert "found 1\n" in run("progress.step = 2; raise SystemExit(3)", root, s3_server, status=3)
    term = "progress.step = 3; os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
    assert "found 2\n" in run(term, root, s3_server, status=128 + signal.SIGTERM)
    kill = """
progress.step = 4
pending = group.async_save()
pending.wait(60)
progress.step = 5
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert "found 3\n" in run(kill, root, s3_server, status=-signal.SIGKILL)
    assert "found 4\n" in run("", root, s3_server, status=0, settings=",atexit_saving=disabled")


def test_sigterm_in_the_middle_of_saves_has_the_newest_state_saved(s3_server: S3Server, root: str) -> None:
    busy = """
try:
    while True:
        progress.step += 1
        print("saving", flush=True)
        group.save()
finally:
    print(progress.step)
"""
    program = start(PROGRAM + busy, root, s3_server, **SIGNED)
    program.wait_for("saving")
    program.send(signal.SIGTERM)
    done = program.wait(PATIENCE_S)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    newest = int(done.stdout.split()[-1])
    assert f"found {newest}\n" in run("", root, s3_server, status=0, settings=",atexit_saving=disabled")


def test_a_store_can_be_reached_for_the_first_time_while_a_program_ends(s3_server: S3Server, root: str) -> None:
    """Name look-ups go on when Python's own executors refuse to work."""
    code = """
import atexit, sys
from sucrose.storage.objects import open_storage
atexit.register(lambda: open_storage(sys.argv[1]).put("last", b"words"))
"""
    done = start(code, root, s3_server).wait(PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
    with open_storage(root, s3_server.storage_options()) as storage:
        assert storage.read("last") == b"words"


def test_a_program_that_is_killed_in_the_middle_of_periodic_saves_finds_the_last_that_was_complete(
    s3_server: S3Server, root: str
) -> None:
    settings = ",periodic_saving=enabled,periodic_saving_interval=0.05,keep_last=2"
    busy = """
print("steps", flush=True)
while True:
    progress.step += 1
    time.sleep(0.001)
"""
    newest = 0
    for _ in range(2):
        program = start(PROGRAM + busy, root, s3_server, settings=settings, **SIGNED)
        program.wait_for("steps")
        deadline = newest + 1
        while (saved := saved_step(root, s3_server)) < deadline:
            pass
        program.send(signal.SIGKILL)
        found = int(program.wait(PATIENCE_S).stdout.split()[1])
        assert found >= newest
        newest = saved
    found = int(run("", root, s3_server, status=0, settings=",atexit_saving=disabled").split()[1])
    assert found >= newest
    catalog = Catalog(root, storage_options=s3_server.storage_options())
    assert catalog.quarantined() == []
    assert all(generation.snapshot().verify() for generation in catalog.generations())


def saved_step(root: str, server: S3Server) -> int:
    """Of the newest generation: what the program has certainly saved."""
    newest = Catalog(root, storage_options=server.storage_options()).latest()
    return 0 if newest is None else newest.step

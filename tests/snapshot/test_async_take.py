"""`Snapshot.async_take` within one process: what is saved, in which order, and who hears of failures.

Saves are held back by events, not by luck: `held_writes` is a disk that does not get on, and
`held_commits` one that stops at the commit.
"""

from __future__ import annotations

import errno
import gc
import inspect
import math
import os
import resource
import signal
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sucrose import Snapshot, StateDict
from sucrose.errors import CancelledError, StorageError
from sucrose.snapshot import data_writes, take_request
from sucrose.snapshot.process_end import COMMITS
from sucrose.snapshot.take import StartedTake
from sucrose.storage import StagedDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def no_failure_is_left_for_the_next_test() -> Iterator[None]:
    yield
    for queued in COMMITS.under_way():
        assert COMMITS.wait_ended(queued, PATIENCE_S)
    assert COMMITS.pop_untold() is None


class Gate:
    """Everybody who comes to it waits until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    def pass_through(self, timeout_s: float | None) -> bool:
        self.reached.set()
        return self._opened.wait(timeout_s)

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self.reached.clear()
        self._opened.clear()


@pytest.fixture
def held_writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    wait_written = StartedTake.wait_written

    def held(take: StartedTake, timeout_s: float | None = None) -> bool:
        return gate.pass_through(timeout_s) and wait_written(take, timeout_s)

    monkeypatch.setattr(StartedTake, "wait_written", held)
    yield gate
    gate.open()


@pytest.fixture
def held_commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    commit = StagedDirectory.commit

    def held(staged: StagedDirectory, *args: Any, **kwargs: Any) -> None:
        assert gate.pass_through(PATIENCE_S)
        commit(staged, *args, **kwargs)

    monkeypatch.setattr(StagedDirectory, "commit", held)
    yield gate
    gate.open()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A disk on which no commit finds room; the function makes room."""
    commit = StagedDirectory.commit

    def fail(staged: StagedDirectory, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), staged.root)

    monkeypatch.setattr(StagedDirectory, "commit", fail)
    return lambda: monkeypatch.setattr(StagedDirectory, "commit", commit)


def state(value: float = 1.0, numel: int = 1000) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((numel,), value))}


def value_at(path: Path) -> float:
    snapshot = Snapshot(path)
    assert snapshot.verify()
    value: float = snapshot.read_object("0/state/value")
    assert snapshot.read_object("0/state/tensor").eq(value).all()
    return value


# What is saved


@pytest.mark.parametrize("staging_nbytes", ["0", "1"], ids=["staged", "too large to be staged"])
def test_what_happens_to_the_state_after_the_call_is_not_in_the_snapshot(
    tmp_path: Path, each_engine: str, held_writes: Gate, monkeypatch: pytest.MonkeyPatch, staging_nbytes: str
) -> None:
    monkeypatch.setenv("SUCROSE_STAGING_NBYTES", staging_nbytes)
    numel = 3_000_000  # more than two chunks
    changed, resized, freed = (torch.arange(numel) + k for k in range(3))
    strided = torch.arange(float(numel)).view(-1, 2).t()
    expected = [tensor.clone() for tensor in (changed, resized, freed, strided)]
    listed, ids = [1, 2], {3, 4}
    app_state = StateDict(changed=changed, resized=resized, freed=freed, strided=strided, listed=listed, ids=ids)

    pending = Snapshot.async_take(tmp_path / "s", {"state": app_state})
    changed.zero_()
    strided.fill_(-1)
    resized.untyped_storage().resize_(0)
    freed.untyped_storage().resize_(0)
    listed.append(3)
    ids.add(5)
    app_state["later"] = 1
    noise = torch.full((numel,), 7)  # where the freed memory was
    held_writes.open()

    snapshot = pending.wait(PATIENCE_S)
    saved = Snapshot(tmp_path / "s").get_state_dict_for_key("state", allow_pickle=True)
    assert noise.eq(7).all()
    assert snapshot.verify()
    for name, tensor in zip(("changed", "resized", "freed", "strided"), expected, strict=True):
        assert_same(saved.pop(name), tensor.contiguous(), name)
    assert saved == {"listed": [1, 2], "ids": {3, 4}}


def test_optimizer_steps_during_the_save_are_not_in_it(tmp_path: Path, each_engine: str, held_writes: Gate) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Linear(256, 8))
    optimizer = torch.optim.Adam(model.parameters())

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(4, 64)).square().sum().backward()
            optimizer.step()

    train(2)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moments = [entry["exp_avg"].clone() for entry in optimizer.state_dict()["state"].values()]
    pending = Snapshot.async_take(tmp_path / "s", {"model": model, "optimizer": optimizer})
    train(3)
    held_writes.open()
    pending.wait(PATIENCE_S).restore({"model": model, "optimizer": optimizer})
    assert_same(dict(model.state_dict()), weights)
    assert_same([entry["exp_avg"] for entry in optimizer.state_dict()["state"].values()], moments)


def test_the_sources_are_let_go_of_long_before_the_commit(tmp_path: Path, each_engine: str, held_writes: Gate) -> None:
    tensors = [torch.ones(2_000_000), torch.ones(1000, 1000).t()]
    references = [weakref.ref(tensor) for tensor in tensors]
    app_state = {"state": StateDict(tensors=tensors)}
    pending = Snapshot.async_take(tmp_path / "s", app_state)
    pending.wait_staged(PATIENCE_S)
    assert pending.staged()
    del app_state, tensors
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert not pending.done()
    held_writes.open()
    assert pending.wait(PATIENCE_S).verify()


SOME_STATE = st.lists(
    st.tuples(
        st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64]),
        st.lists(st.integers(0, 5), max_size=3),
        st.booleans(),
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=SOME_STATE, max_file_nbytes=st.sampled_from(["0", "64", "1000000"]))
def test_async_take_writes_the_bytes_that_take_writes(
    each_engine: str,
    files_below: Callable[[Path], dict[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
    tensors: list[Any],
    max_file_nbytes: str,
) -> None:
    folder = tmp_path_factory.mktemp("both")
    made = [torch.arange(max(1, *shape, 1) * 200).to(dtype)[: 6**3] for dtype, shape, _ in tensors]
    values = [
        tensor.as_strided(shape, list(reversed(range(1, len(shape) + 1))) if turned else [1] * len(shape))
        for tensor, (_, shape, turned) in zip(made, tensors, strict=True)
    ]
    app_state = {"state": StateDict(values=values, number=3, words=("a", {"b"}))}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SUCROSE_MAX_FILE_NBYTES", max_file_nbytes)
        Snapshot.take(folder / "sync", app_state, durable=False)
        Snapshot.async_take(folder / "async", app_state, durable=False).wait(PATIENCE_S)
    assert files_below(folder / "async") == files_below(folder / "sync")


def test_a_snapshot_of_more_files_than_may_be_open_at_once(
    tmp_path: Path, each_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_writes, "MAX_UNDER_WAY", 3)
    monkeypatch.setenv("SUCROSE_MAX_FILE_NBYTES", "0")
    values = [torch.full((100,), k) for k in range(20)]
    pending = Snapshot.async_take(tmp_path / "s", {"state": StateDict(values=values)})
    for tensor in values:
        tensor.zero_()
    saved = pending.wait(PATIENCE_S).get_state_dict_for_key("state")
    assert [tensor[0].item() for tensor in saved["values"]] == list(range(20))
    assert pending.progress() == (pending.wait().stats.nbytes,) * 2  # type: ignore[union-attr]


def test_random_generators_are_left_as_they_were(tmp_path: Path) -> None:
    class Drawing:
        def state_dict(self) -> dict[str, Any]:
            return {"noise": torch.rand(4)}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...

    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Snapshot.async_take(tmp_path / "s", {"drawing": Drawing()}).wait(PATIENCE_S)
    assert torch.rand(1) == expected


def test_the_arguments_are_those_of_take() -> None:
    of_take = dict(inspect.signature(Snapshot.take).parameters)
    del of_take["progress"]
    assert dict(inspect.signature(Snapshot.async_take).parameters) == of_take


def test_bad_arguments_are_refused_by_the_call_itself(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="state_dict"):
        Snapshot.async_take(tmp_path / "s", {"state": 3})  # type: ignore[dict-item]
    Snapshot.take(tmp_path / "s", state())
    with pytest.raises(FileExistsError):
        Snapshot.async_take(tmp_path / "s", state())
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


# Waiting


def test_what_wait_returns_knows_how_the_save_went(tmp_path: Path, each_engine: str, held_writes: Gate) -> None:
    pending = Snapshot.async_take(tmp_path / "s", state(numel=100_000))
    assert not pending.done()
    assert pending.progress()[1] > 400_000
    assert not (tmp_path / "s").exists()
    held_writes.open()
    snapshot = pending.wait(PATIENCE_S)
    assert pending.done()
    assert snapshot.path == pending.path == str(tmp_path / "s")
    stats = snapshot.stats
    assert stats is not None
    assert stats.staging == ("host" if each_engine == "native" else "blocking")
    assert 0 < stats.capture_s < stats.stall_s
    assert pending.progress() == (stats.nbytes, stats.nbytes)
    sync = Snapshot.take(tmp_path / "sync", state()).stats
    assert sync is not None
    assert sync.staging == "none"
    assert sync.stall_s >= sync.capture_s + sync.write_s


def test_too_small_a_budget_is_reported(tmp_path: Path, each_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUCROSE_STAGING_NBYTES", "1")
    stats = Snapshot.async_take(tmp_path / "s", state(numel=5_000_000)).wait(PATIENCE_S).stats
    assert stats is not None
    assert stats.staging == "blocking"


def test_waiting_with_a_time_out_leaves_the_save_as_it_is(tmp_path: Path, held_writes: Gate) -> None:
    pending = Snapshot.async_take(tmp_path / "s", state())
    for timeout in (0, 0.05):
        with pytest.raises(TimeoutError, match="bytes"):
            pending.wait(timeout)
    held_writes.open()
    pending.wait(PATIENCE_S)
    assert value_at(tmp_path / "s") == 1.0


@pytest.mark.parametrize("method", ["wait", "wait_staged"])
def test_a_time_out_may_be_infinite(tmp_path: Path, held_writes: Gate, method: str) -> None:
    pending = Snapshot.async_take(tmp_path / "s", state())
    threading.Timer(0.05, held_writes.open).start()
    getattr(pending, method)(math.inf)
    pending.wait(PATIENCE_S)
    assert value_at(tmp_path / "s") == 1.0


def test_what_wait_returns_is_found_after_a_change_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pending = Snapshot.async_take("s", state())
    monkeypatch.chdir("/")
    snapshot = pending.wait(PATIENCE_S)
    assert snapshot.path == "s"
    assert snapshot.verify()


def test_several_threads_may_wait(tmp_path: Path, held_commits: Gate) -> None:
    pending = Snapshot.async_take(tmp_path / "s", state())
    found: list[float] = []

    def wait() -> None:
        found.append(pending.wait(PATIENCE_S).read_object("0/state/value"))

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    held_commits.open()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert found == [1.0] * 4


@pytest.mark.parametrize("method", ["wait", "wait_staged"])
def test_ctrl_c_while_waiting_leaves_the_save_running(
    tmp_path: Path, each_engine: str, held_writes: Gate, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    release_staged = data_writes.DataWrites.release_staged
    staging = threading.Event()
    monkeypatch.setattr(
        data_writes.DataWrites, "release_staged", lambda writes: staging.is_set() and release_staged(writes)
    )
    pending = Snapshot.async_take(tmp_path / "s", state())
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the timer must not come before the block
        timer.start()
        getattr(pending, method)(PATIENCE_S)
    timer.join()
    assert not pending.done()
    staging.set()
    held_writes.open()
    pending.wait_staged(PATIENCE_S)
    assert pending.wait(PATIENCE_S).verify()


def test_a_handle_that_is_dropped_still_commits(tmp_path: Path, each_engine: str, held_writes: Gate) -> None:
    Snapshot.async_take(tmp_path / "s", state())
    gc.collect()
    held_writes.open()
    for queued in COMMITS.under_way():
        COMMITS.wait_ended(queued)
    assert value_at(tmp_path / "s") == 1.0


def test_no_thread_is_left_when_nothing_is_pending(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    Snapshot.async_take(tmp_path / "s", state()).wait(PATIENCE_S)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


# Order


def test_commits_come_in_the_order_of_the_calls(
    tmp_path: Path, each_engine: str, held_writes: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = StagedDirectory.commit
    order: list[str] = []

    def noted(staged: StagedDirectory, *args: Any, **kwargs: Any) -> None:
        commit(staged, *args, **kwargs)
        order.append(os.path.basename(staged.target))

    monkeypatch.setattr(StagedDirectory, "commit", noted)
    sizes = [3_000_000, 10, 500_000, 20]
    pending = [Snapshot.async_take(tmp_path / f"{k}", state(float(k), numel)) for k, numel in enumerate(sizes)]
    held_writes.open()
    Snapshot.take(tmp_path / "sync", state())
    assert order == ["0", "1", "2", "3", "sync"]
    assert all(one.done() for one in pending)
    assert [value_at(tmp_path / f"{k}") for k in range(4)] == [0.0, 1.0, 2.0, 3.0]


def test_a_program_that_saves_faster_than_the_disk_waits_for_it(tmp_path: Path, held_commits: Gate) -> None:
    """Each pending save has a descriptor, a folder and memory: they do not become ever more."""
    pending = [Snapshot.async_take(tmp_path / str(number), {"state": StateDict(number=number)}) for number in range(32)]
    assert not any(save.done() for save in pending)
    threading.Timer(0.1, held_commits.open).start()
    last = Snapshot.async_take(tmp_path / "last", {"state": StateDict(number=32)})
    assert pending[0].done()
    assert last.wait(PATIENCE_S).read_object("0/state/number") == 32
    assert [save.wait().read_object("0/state/number") for save in pending] == list(range(32))


def test_of_several_saves_to_one_path_the_last_one_stays(tmp_path: Path, each_engine: str, held_writes: Gate) -> None:
    pending = [Snapshot.async_take(tmp_path / "s", state(float(k)), overwrite=True) for k in range(4)]
    held_writes.open()
    for one in reversed(pending):
        one.wait(PATIENCE_S)
    assert value_at(tmp_path / "s") == 3.0
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


# Failures


def test_a_failure_keeps_its_type_each_time_it_is_raised(
    tmp_path: Path, each_engine: str, full_disk: Callable[[], None]
) -> None:
    pending = Snapshot.async_take(tmp_path / "s", state())
    for _ in range(3):
        with pytest.raises(StorageError) as caught:
            pending.wait(PATIENCE_S)
        assert caught.value.errno == errno.ENOSPC
    assert pending.done()
    assert list(tmp_path.iterdir()) == []
    full_disk()
    Snapshot.take(tmp_path / "s", state())  # wait() has told of the failure: nothing is left to raise


def test_what_came_to_be_at_the_path_meanwhile_is_not_replaced(
    tmp_path: Path, each_engine: str, held_writes: Gate
) -> None:
    first = Snapshot.async_take(tmp_path / "s", state(1.0))
    second = Snapshot.async_take(tmp_path / "s", state(2.0))
    held_writes.open()
    first.wait(PATIENCE_S)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        second.wait(PATIENCE_S)
    assert value_at(tmp_path / "s") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("method", ["take", "async_take"])
def test_the_next_take_tells_of_a_failure_once_and_does_nothing_then(
    tmp_path: Path, full_disk: Callable[[], None], method: str
) -> None:
    for name in "ab":
        Snapshot.async_take(tmp_path / name, state())
        while COMMITS.under_way():
            COMMITS.wait_ended(COMMITS.under_way()[0])
        if name == "a":
            with pytest.raises(StorageError, match=r"'[^']*/a'"):
                getattr(Snapshot, method)(tmp_path / "c", state())
    full_disk()
    with pytest.raises(StorageError, match=r"'[^']*/b'"):
        getattr(Snapshot, method)(tmp_path / "c", state())
    assert list(tmp_path.iterdir()) == []
    Snapshot.async_take(tmp_path / "c", state()).wait(PATIENCE_S)
    assert value_at(tmp_path / "c") == 1.0


@pytest.fixture
def files_up_to_200_kb() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("files_up_to_200_kb")
def test_a_failed_write_fails_the_save_and_not_the_one_behind_it(
    tmp_path: Path, each_engine: str, held_writes: Gate
) -> None:
    bad = Snapshot.async_take(tmp_path / "bad", state(numel=100_000))
    good = Snapshot.async_take(tmp_path / "good", state())
    held_writes.open()
    with pytest.raises(StorageError, match="nothing was committed") as caught:
        bad.wait(PATIENCE_S)
    assert caught.value.errno == errno.EFBIG
    bad.wait_staged(PATIENCE_S)
    good.wait(PATIENCE_S)
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


@pytest.mark.usefixtures("files_up_to_200_kb")
@pytest.mark.parametrize("staging_nbytes", ["0", "1"], ids=["staged", "too large to be staged"])
def test_a_failure_does_not_keep_the_tensors_alive(
    tmp_path: Path, each_engine: str, monkeypatch: pytest.MonkeyPatch, staging_nbytes: str
) -> None:
    monkeypatch.setenv("SUCROSE_STAGING_NBYTES", staging_nbytes)
    tensor = torch.ones(100_000)
    reference = weakref.ref(tensor)
    pending = Snapshot.async_take(tmp_path / "s", {"state": StateDict(tensor=tensor)})
    del tensor
    with pytest.raises(StorageError):
        pending.wait(PATIENCE_S)
    gc.collect()
    assert reference() is None
    assert pending.done()  # the handle has the error, and is still there


# Cancelling


def test_a_cancelled_save_leaves_what_was_there_before(tmp_path: Path, each_engine: str, held_writes: Gate) -> None:
    held_writes.open()
    Snapshot.take(tmp_path / "s", state(1.0))
    held_writes.close()
    pending = Snapshot.async_take(tmp_path / "s", state(2.0, 3_000_000), overwrite=True)
    assert held_writes.reached.wait(PATIENCE_S)
    assert pending.cancel()
    assert pending.done()
    assert pending.staged()
    for _ in range(2):
        with pytest.raises(CancelledError, match="nothing was committed"):
            pending.wait(PATIENCE_S)
    assert pending.cancel()
    assert value_at(tmp_path / "s") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    held_writes.open()
    Snapshot.take(tmp_path / "t", state())  # cancelling is no failure


def test_cancelling_one_of_several_leaves_the_others(tmp_path: Path, each_engine: str, held_writes: Gate) -> None:
    pending = [Snapshot.async_take(tmp_path / name, state()) for name in "abc"]
    assert pending[1].cancel()
    assert [one.done() for one in pending] == [False, True, False]
    held_writes.open()
    pending[2].wait(PATIENCE_S)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_cancelling_during_the_commit_comes_too_late(tmp_path: Path, each_engine: str, held_commits: Gate) -> None:
    pending = Snapshot.async_take(tmp_path / "s", state())
    assert held_commits.reached.wait(PATIENCE_S)
    threading.Timer(0.1, held_commits.open).start()
    assert not pending.cancel()
    assert not pending.cancel()
    pending.wait(PATIENCE_S)
    assert value_at(tmp_path / "s") == 1.0


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delay_s=st.floats(0, 0.03))
def test_cancelling_at_any_time_leaves_all_or_nothing(
    each_engine: str, tmp_path_factory: pytest.TempPathFactory, delay_s: float
) -> None:
    folder = tmp_path_factory.mktemp("cancelled")
    Snapshot.take(folder / "s", state(1.0), durable=False)
    pending = Snapshot.async_take(folder / "s", state(2.0, 500_000), overwrite=True, durable=False)
    threading.Event().wait(delay_s)
    cancelled = pending.cancel()
    assert value_at(folder / "s") == (1.0 if cancelled else 2.0)
    assert [path.name for path in folder.iterdir()] == ["s"]


@pytest.mark.parametrize("moment", ["while copying", "afterwards"])
def test_ctrl_c_in_the_call_itself_leaves_nothing(
    tmp_path: Path, each_engine: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    owner, name = (
        (data_writes.DataWrites, "wait_safe") if moment == "while copying" else (take_request, "commit_in_background")
    )
    original = getattr(owner, name)

    def interrupted(*args: Any) -> None:
        original(*args)
        raise KeyboardInterrupt

    commit = StagedDirectory.commit
    monkeypatch.setattr(StagedDirectory, "commit", lambda *args, **kwargs: pytest.fail("it was committed"))
    wait_written = StartedTake.wait_written
    monkeypatch.setattr(StartedTake, "wait_written", lambda take, timeout_s: threading.Event().wait(timeout_s))
    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        Snapshot.async_take(tmp_path / "s", state(numel=2_000_000))
    assert list(tmp_path.iterdir()) == []
    assert COMMITS.under_way() == []
    monkeypatch.setattr(owner, name, original)
    monkeypatch.setattr(StagedDirectory, "commit", commit)
    monkeypatch.setattr(StartedTake, "wait_written", wait_written)
    Snapshot.async_take(tmp_path / "s", state()).wait(PATIENCE_S)
    assert value_at(tmp_path / "s") == 1.0

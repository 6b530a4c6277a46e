"""Bad input is a documented error, and afterwards everything is as it was before."""

from __future__ import annotations

import copy
import errno
import os
import resource
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same

from sucrose import RNGState, Snapshot, StateDict
from sucrose.errors import (
    ConfigError,
    IncompleteSnapshotError,
    StateMismatchError,
    StorageError,
    SucroseError,
    UnsafeObjectError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Files = "Callable[[Path], dict[str, bytes]]"


def state(value: float = 1.0) -> dict[str, Any]:
    return {"state": StateDict(v=torch.full((3000,), value), o=(value,))}


def without_memory() -> torch.Tensor:
    """What sharded training leaves of a parameter between its uses."""
    tensor = torch.ones(10)
    tensor.untyped_storage().resize_(0)
    return tensor


# --- taking -----------------------------------------------------------------------------------------------------------

BAD_STATES: list[tuple[Any, type[Exception], str]] = [
    ([1, 2], TypeError, "list"),
    ({"epoch": 5}, TypeError, r"'epoch'.*int.*StateDict"),
    ({"state": {"v": 1}}, TypeError, r"'state'.*dict"),
    ({5: StateDict()}, TypeError, "5"),
    ({"a\ud800": StateDict()}, ValueError, "Unicode"),
    ({"a": RNGState(), "b": RNGState()}, RuntimeError, "a, b"),
    ({"m": torch.nn.Linear(2, 2, device="meta")}, UnsupportedError, r"0/m/weight.*to_empty"),
    ({"s": StateDict(v=without_memory())}, UnsupportedError, "0/s/v.*no memory"),
    ({"m": torch.nn.LazyLinear(2)}, UnsupportedError, r"0/m/weight.*not initialized"),
    ({"s": StateDict(f=[lambda: 1])}, UnsupportedError, "0/s/f/0.*cannot be pickled"),
    ({"s": StateDict(lock=threading.Lock())}, UnsupportedError, "0/s/lock.*_thread.lock"),
]


@pytest.mark.parametrize(("app_state", "error", "message"), BAD_STATES)
def test_what_cannot_be_saved_is_named_and_nothing_is_left(
    tmp_path: Path, app_state: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Snapshot.take(tmp_path / "s", app_state)
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_contains_itself_is_refused(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnsupportedError, match="contains itself"):
        Snapshot.take(tmp_path / "s", {"state": StateDict(v=endless)})


class Fails:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def state_dict(self) -> dict[str, Any]:
        raise self.error

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise self.error


@pytest.mark.parametrize("error", [LookupError("no state"), KeyboardInterrupt()])
def test_an_error_of_a_stateful_is_raised_as_it_is(tmp_path: Path, files_below: Files, error: BaseException) -> None:
    Snapshot.take(tmp_path / "s", state())
    before = files_below(tmp_path)
    with pytest.raises(type(error)) as caught:
        Snapshot.take(tmp_path / "s", {**state(), "fails": Fails(error)}, overwrite=True)
    assert caught.value is error
    assert files_below(tmp_path) == before


def test_an_existing_snapshot_is_kept_unless_overwriting_was_asked_for(tmp_path: Path, files_below: Files) -> None:
    Snapshot.take(tmp_path / "s", state(1.0))
    before = files_below(tmp_path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        Snapshot.take(tmp_path / "s", state(2.0))
    assert files_below(tmp_path) == before
    Snapshot.take(tmp_path / "s", {"only": StateDict(v=torch.zeros(2))}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert set(Snapshot(tmp_path / "s").get_manifest()) == {"0/only", "0/only/v"}
    assert Snapshot(tmp_path / "s").verify()


def test_overwriting_through_a_symbolic_link_keeps_what_it_led_to(tmp_path: Path) -> None:
    Snapshot.take(tmp_path / "step_1", state(1.0))
    (tmp_path / "latest").symlink_to("step_1")
    Snapshot.take(tmp_path / "latest", state(2.0), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step_1"]
    assert Snapshot(tmp_path / "latest").read_object("0/state/o") == (2.0,)
    assert Snapshot(tmp_path / "step_1").read_object("0/state/o") == (1.0,)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_snapshot_is_never_replaced(tmp_path: Path, files_below: Files, overwrite: bool) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("notes")
    (tmp_path / "dangling").symlink_to("nowhere")
    before = files_below(tmp_path)
    for name in ("file", "folder", "dangling", "file/s"):
        with pytest.raises(OSError, match=name.partition("/")[0]) as caught:
            Snapshot.take(tmp_path / name, state(), overwrite=overwrite)
        assert isinstance(caught.value, (FileExistsError, NotADirectoryError))
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_empty_folder_becomes_the_snapshot(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "s").mkdir()
    Snapshot.take(tmp_path / "s", state(), overwrite=overwrite)
    assert Snapshot(tmp_path / "s").verify()
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_unknown_schemes_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nosuch://") as caught:
        Snapshot.take("nosuch://bucket/s", state())
    assert caught.value.path == "nosuch://bucket/s"
    with pytest.raises(ValueError, match="region"):
        Snapshot.take(tmp_path / "s", state(), storage_options={"region": "x"})


@contextmanager
def limit(kind: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@pytest.mark.parametrize("numel", [3000, 3_000_000], ids=["buffered", "direct"])
def test_a_write_that_the_system_refuses_commits_nothing(
    each_engine: str, tmp_path: Path, files_below: Files, numel: int
) -> None:
    Snapshot.take(tmp_path / "s", state())
    before = files_below(tmp_path)
    large = {"state": StateDict(v=torch.ones(numel))}
    with limit(resource.RLIMIT_FSIZE, 8192), pytest.raises(StorageError, match="nothing was committed") as caught:
        Snapshot.take(tmp_path / "s", large, overwrite=True)
    assert caught.value.errno == errno.EFBIG
    assert "0_0.safetensors" in str(caught.value.path)
    assert files_below(tmp_path) == before
    Snapshot.take(tmp_path / "s", large, overwrite=True)
    assert Snapshot(tmp_path / "s").verify()


def test_an_object_that_does_not_fit_on_the_disk_commits_nothing(tmp_path: Path, files_below: Files) -> None:
    with limit(resource.RLIMIT_FSIZE, 8192), pytest.raises(StorageError, match="objects/0/state/o") as caught:
        Snapshot.take(tmp_path / "s", {"state": StateDict(o=("x" * 10_000,))})
    assert caught.value.errno == errno.EFBIG
    assert files_below(tmp_path) == {}


NOBODY = 65534
UNPRIVILEGED = """
import os, sys, torch
from sucrose import Snapshot, StateDict
Snapshot.take(sys.argv[3], {})  # imports what nobody may not be allowed to read
if os.getuid() == 0:
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
for path in (sys.argv[1], sys.argv[1] + "/deeper/s"):
    try:
        Snapshot.take(path, {"state": StateDict(v=torch.ones(2))}, overwrite=True)
    except PermissionError as error:
        print(error.errno, error.filename)
"""


def test_a_read_only_folder_is_a_permission_error(tmp_path: Path) -> None:
    folder = tmp_path / "read only"
    folder.mkdir(mode=0o755)
    Snapshot.take(folder / "s", state())
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    folder.chmod(0o555)
    program = [sys.executable, "-c", UNPRIVILEGED, str(folder / "s"), str(NOBODY), str(tmp_path / "t")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    folder.chmod(0o755)
    errors = [line.split()[0] for line in done.stdout.splitlines()]
    assert errors == [str(errno.EACCES)] * 2, done.stdout + done.stderr
    assert [path.name for path in folder.iterdir()] == ["s"]
    assert Snapshot(folder / "s").verify()


# --- restoring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing", "empty", "file", "unfinished"])
def test_what_is_no_complete_snapshot_is_named_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("a file")
    Snapshot.take(tmp_path / "unfinished", state())
    (tmp_path / "unfinished" / ".snapshot_metadata").unlink()
    with pytest.raises(IncompleteSnapshotError, match="no complete snapshot") as caught:
        Snapshot(tmp_path / name).restore(state())
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.path == str(tmp_path / name)
    assert caught.value.errno in (errno.ENOENT, errno.ENOTDIR)


def saved_model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))


def _other(change: Callable[[torch.nn.Module], object]) -> dict[str, Any]:
    model = saved_model()
    change(model)
    return {"extra": StateDict(v=torch.zeros(5)), "model": model}


MISMATCHES: dict[str, tuple[Callable[[], dict[str, Any]], str, str]] = {
    "shape": (lambda: _other(lambda m: m.append(m.pop(0))), "0/model/0.weight", "shape"),
    "dtype": (lambda: _other(lambda m: m[1].half()), "0/model/1.weight", r"float16.*float32.*cast=True"),
    "missing key": (lambda: _other(lambda m: m.append(torch.nn.Linear(2, 2))), "0/model/2.weight", "not saved"),
    "unexpected key": (lambda: _other(lambda m: m.pop(1)), "0/model/1.weight", "was saved"),
    "meta": (lambda: _other(lambda m: m[1].to("meta")), "0/model/1.weight", "to_empty"),
    "stateful": (lambda: {**_other(lambda m: None), "modle": StateDict()}, "0/modle", "near matches: '0/model'"),
    "parameter groups": (
        lambda: {**_other(lambda m: None), "optimizer": torch.optim.SGD(saved_model()[0].parameters(), lr=1)},
        "0/optimizer",
        r"\[2\].*\[4\]",
    ),
}


@pytest.mark.parametrize("kind", MISMATCHES)
def test_a_state_that_does_not_fit_is_left_as_it_is(tmp_path: Path, kind: str) -> None:
    model = saved_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    app_state = {"extra": StateDict(v=torch.ones(5)), "model": model, "optimizer": optimizer, "n": StateDict(n=1)}
    Snapshot.take(tmp_path / "s", app_state)
    make_target, key, message = MISMATCHES[kind]
    target = {**make_target(), "n": StateDict(n=5)}
    tensors = [t for value in target.values() for t in value.state_dict().values() if isinstance(t, torch.Tensor)]
    before = [t.clone() for t in tensors if not t.is_meta]
    with pytest.raises(StateMismatchError, match=message) as caught:
        Snapshot(tmp_path / "s").restore(target)
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.key == key
    assert_same([t for t in tensors if not t.is_meta], before)
    assert target["n"]["n"] == 5


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.marker,)


def test_an_unsafe_object_is_refused_before_anything_changes(tmp_path: Path) -> None:
    marker = tmp_path / "code ran"
    Snapshot.take(tmp_path / "s", {"a": StateDict(v=torch.ones(5)), "b": StateDict(attack=Attack(marker))})
    target = {"a": StateDict(v=torch.zeros(5)), "b": StateDict()}
    snapshot = Snapshot(tmp_path / "s")
    with pytest.raises(UnsafeObjectError, match="allow_pickle=True") as caught:
        snapshot.restore(target)
    assert caught.value.key == "0/b/attack"
    assert "objects/0/b/attack" in str(caught.value.path)
    assert not marker.exists()
    assert not target["a"]["v"].any()
    with pytest.raises(UnsafeObjectError):
        snapshot.read_object("0/b/attack")
    with pytest.raises(UnsafeObjectError):
        snapshot.get_state_dict_for_key("b")
    assert not marker.exists()
    snapshot.restore(target, allow_pickle=True)
    assert marker.exists()


def test_bad_arguments_of_restore_are_those_of_take(tmp_path: Path) -> None:
    snapshot = Snapshot.take(tmp_path / "s", state())
    with pytest.raises(TypeError, match=r"'state'.*int"):
        snapshot.restore({"state": 5})  # type: ignore[dict-item]
    with pytest.raises(RuntimeError, match="a, b"):
        snapshot.restore({"a": RNGState(), "b": RNGState()})


def test_every_error_of_the_package_is_caught_by_one_name(tmp_path: Path) -> None:
    target = {"state": StateDict(v=torch.zeros(1))}
    before = copy.deepcopy(target["state"].data)
    with pytest.raises(SucroseError):
        Snapshot(tmp_path / "s").restore(target)
    Snapshot.take(tmp_path / "s", state())
    with pytest.raises(SucroseError):
        Snapshot(tmp_path / "s").restore(target)
    assert_same(target["state"].data, before)

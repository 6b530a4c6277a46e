"""`StateManagerGroup`: registration, saves of everything or nothing, and what the next run finds."""

from __future__ import annotations

import logging
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sucrose.catalog import Catalog
from sucrose.errors import ConfigError, ForkError, StorageError, UnsafeObjectError, UnsupportedError
from sucrose.state.checkpoints import save_one
from sucrose.state.group import StateManagerGroup
from sucrose.state.local import LocalCheckpoints
from sucrose.state.managers import BaseStateManager, StateClosureManager, StateCopyManager, StateManager
from sucrose.state.picklable import PicklableDict
from sucrose.state.values import freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Callable


class Odd:
    """Something that is restored by a full unpickler only."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd)

    __hash__ = None  # type: ignore[assignment]  # it is equal to all others

    def __repr__(self) -> str:
        return "Odd()"  # the tests' names are the same in each process


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "states"


@pytest.fixture
def new_run(
    root: Path, fresh_process: Callable[[], StateManagerGroup], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], StateManagerGroup]:
    """Starts a process that keeps its states there."""
    monkeypatch.setenv("LATTICE_CHECKPOINT_CONFIG", f"root={root}")
    return fresh_process


def test_the_group_is_one_object_per_process(new_run: Callable[[], StateManagerGroup]) -> None:
    group = new_run()
    assert StateManagerGroup() is group


def test_a_key_is_registered_once(new_run: Callable[[], StateManagerGroup]) -> None:
    group = new_run()
    group.register("model")
    with pytest.raises(KeyError, match="'model' is registered already, as StateManager:model"):
        group.register("model", StateCopyManager)
    group.delete("model")
    group.register("model", StateCopyManager)
    assert group.list() == ["model"]


@pytest.mark.parametrize("kind", [dict, StateManager("an object"), "StateManager", None])
def test_only_classes_of_managers_are_registered(new_run: Callable[[], StateManagerGroup], kind: Any) -> None:
    with pytest.raises(TypeError, match=r"'x'.*no subclass of BaseStateManager"):
        new_run().register("x", kind)


def test_a_key_that_nobody_registered_is_an_error_that_lists_the_others(
    new_run: Callable[[], StateManagerGroup],
) -> None:
    group = new_run()
    group.register("model")
    for use in (lambda: group.update("modle", 1), lambda: group.get("modle"), lambda: group.delete("modle")):
        with pytest.raises(KeyError, match=r"'modle' is not registered; registered are .'model'"):
            use()
    assert group.contain("model")
    assert not group.contain("modle")


def test_get_without_a_key_is_for_groups_of_one_state(new_run: Callable[[], StateManagerGroup]) -> None:
    group = new_run()
    with pytest.raises(TypeError):
        group.get()
    group.register("a")
    group.update("a", [1])
    assert group.get() == [1]
    group.register("b")
    with pytest.raises(TypeError, match=r"\['a', 'b'\]"):
        group.get()


def test_keygen_counts_the_objects_of_each_type(new_run: Callable[[], StateManagerGroup]) -> None:
    group = new_run()
    keys = [group.keygen(each) for each in ({}, [], {}, torch.nn.Linear(1, 1), PicklableDict())]
    assert keys == ["dict.0", "list.0", "dict.1", "Linear.0", "PicklableDict.0"]


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [1.5, None, (2, 3)]},
        {1, 2, 3},
        "a string",
        "",
        b"bytes",
        0,
        False,
        3.25,
        Odd(),
        [Odd(), {"nested": {Odd}}],
        PicklableDict(k1=3),
        Path("/somewhere"),
    ],
    ids=repr,
)
def test_a_value_of_any_type_is_found_by_the_next_run(new_run: Callable[[], StateManagerGroup], value: Any) -> None:
    group = new_run()
    group.register("x")
    group.update("x", value)
    assert group.save()
    group = new_run()
    group.register("x")
    found = group.get("x")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("key", ["x", "a/b", "50%", "under_score", "", "*", "..", "ключ", "a\nb", "n" * 300])
def test_a_key_may_be_any_string(new_run: Callable[[], StateManagerGroup], key: str) -> None:
    group = new_run()
    group.register(key)
    group.update(key, torch.arange(4))
    group.save()
    group = new_run()
    group.register(key)
    assert torch.equal(group.get(key), torch.arange(4))


def test_tensors_in_nested_containers_come_back_bit_for_bit(new_run: Callable[[], StateManagerGroup]) -> None:
    base = torch.randn(6, 7)
    value = {"model": torch.nn.Linear(3, 2), "views": [base.t(), (base[2:4], {"bf16": base.bfloat16()})], "base": base}
    group = new_run()
    group.register("x")
    group.update("x", value)
    group.async_save().wait()  # type: ignore[union-attr]  # not skipped
    base_then = base.clone()
    base.zero_()
    group = new_run()
    group.register("x")
    found = group.get("x")
    assert torch.equal(found["base"], base_then)
    assert torch.equal(found["views"][0], base_then.t())
    assert torch.equal(found["views"][1][1]["bf16"], base_then.bfloat16())
    found["base"][2, 0] = 42.0  # views view the same memory again
    assert found["views"][1][0][0, 0] == 42.0
    for name, parameter in value["model"].named_parameters():  # type: ignore[attr-defined]  # a module
        assert torch.equal(found["model"].get_parameter(name), parameter)


def test_nothing_is_saved_while_a_state_has_no_value(
    new_run: Callable[[], StateManagerGroup], caplog: pytest.LogCaptureFixture, root: Path
) -> None:
    group = new_run()
    group.register("a")
    group.register("b")
    group.update("a", 1)
    group.update("b", None)  # is ignored
    with caplog.at_level(logging.WARNING, logger="sucrose"):
        assert not group.save()
        assert group.async_save() is None
    assert [record.getMessage() for record in caplog.records] == [
        "the states are not saved while these have no value: b"
    ]
    assert Catalog(root).latest() is None
    group.update("b", 2)
    assert group.save()


def test_states_of_an_earlier_run_are_carried_along_until_they_are_registered(
    new_run: Callable[[], StateManagerGroup],
) -> None:
    group = new_run()
    for key in ("a", "b"):
        group.register(key)
        group.update(key, torch.full((3,), ord(key)))
    group.save()
    for value in (1, 2, 3):  # runs that crash before they come to registering a
        group = new_run()
        group.register("b")
        group.update("b", value)
        group.save()
        group.save()
    group = new_run()
    group.register("a")
    assert torch.equal(group.get("a"), torch.full((3,), ord("a")))
    group.save()
    group = new_run()
    group.register("b")
    assert group.get("b") == 3


def test_a_state_that_was_loaded_but_never_used_is_saved_as_it_was(new_run: Callable[[], StateManagerGroup]) -> None:
    group = new_run()
    group.register("a")
    group.update("a", [Odd()])
    group.save()
    for _ in range(2):
        group = new_run()
        group.register("a")
        group.save()
    group = new_run()
    group.register("a")
    assert group.get("a") == [Odd()]


def test_a_deleted_state_is_not_in_the_next_checkpoint(new_run: Callable[[], StateManagerGroup]) -> None:
    group = new_run()
    for key in ("a", "b", "c"):
        group.register(key)
        group.update(key, key)
    group.save()
    group = new_run()
    group.register("a")
    group.delete("a")
    assert not group.contain("a")
    group.register("b")
    group.save()
    group = new_run()
    for key in ("a", "b", "c"):
        group.register(key)
    assert [group.get(key) for key in ("a", "b", "c")] == [None, "b", "c"]


def test_deleting_the_star_deletes_everything_for_the_next_run_too(new_run: Callable[[], StateManagerGroup]) -> None:
    group = new_run()
    for key in ("a", "b"):
        group.register(key)
        group.update(key, key)
    group.save()
    group = new_run()
    group.register("a")
    group.delete("*")
    assert group.list() == []
    assert group.save()
    group = new_run()
    for key in ("a", "b"):
        group.register(key)
        assert group.get(key) is None


def test_without_auto_load_a_state_begins_empty_and_load_brings_it_back(
    new_run: Callable[[], StateManagerGroup],
) -> None:
    group = new_run()
    assert not group.load()
    group.register("a")
    group.update("a", 1)
    group.save()
    group = new_run()
    group.register("a", auto_load=False)
    assert group.get("a") is None
    group.update("a", 2)
    assert group.load()
    assert group.get("a") == 1


def test_a_manager_saves_its_own_state_and_leaves_the_others_alone(new_run: Callable[[], StateManagerGroup]) -> None:
    group = new_run()
    for key in ("a", "b"):
        group.register(key)
        group.update(key, 1)
    group.save()
    manager = StateManager("a")
    manager.update(2)
    manager.save()
    new_run()
    alone = StateManager("a")
    assert alone.get() is None
    alone.load()
    assert alone.get() == 2
    other = StateCopyManager("b")
    other.load()
    assert other.get() == 1


def test_a_value_that_cannot_be_pickled_is_named_and_nothing_is_saved(
    new_run: Callable[[], StateManagerGroup], root: Path
) -> None:
    group = new_run()
    group.register("good")
    group.update("good", 1)
    group.register("bad", StateClosureManager)
    group.update("bad", lambda: (each for each in ()))
    with pytest.raises(UnsupportedError, match="bad"):
        group.save()
    assert Catalog(root).latest() is None


def test_a_broken_newest_checkpoint_is_set_aside_and_all_states_come_from_the_one_before(
    new_run: Callable[[], StateManagerGroup], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group = new_run()
    for key in ("a", "b"):
        group.register(key)
    for value in (1, 2):
        group.update("a", torch.full((100,), value))
        group.update("b", value)
        group.save()
    newest = Catalog(root).latest()
    assert newest is not None
    data = Path(newest.path) / "data" / "0_0.safetensors"
    damaged = bytearray(data.read_bytes())
    damaged[-1] ^= 1
    data.write_bytes(damaged)
    group = new_run()
    with caplog.at_level(logging.WARNING, logger="sucrose"):
        for key in ("a", "b"):
            group.register(key)
    assert group.get("a")[0] == 1
    assert group.get("b") == 1
    assert [Path(newest.path).name in record.getMessage() for record in caplog.records].count(True) >= 1


def test_pickles_of_a_directory_that_others_may_write_to_are_refused_with_the_reason(
    new_run: Callable[[], StateManagerGroup], root: Path
) -> None:
    group = new_run()
    for key, value in (("odd", Odd()), ("plain", {"tensor": torch.ones(2), "number": 1})):
        group.register(key)
        group.update(key, value)
    group.save()
    root.chmod(root.stat().st_mode | stat.S_IWOTH)
    group = new_run()
    with pytest.raises(UnsafeObjectError, match="chmod") as caught:
        group.register("odd")
    assert str(root) in str(caught.value)
    assert not group.contain("odd")
    group.register("plain")
    assert torch.equal(group.get("plain")["tensor"], torch.ones(2))


def test_the_directory_is_made_for_this_user_alone(new_run: Callable[[], StateManagerGroup], root: Path) -> None:
    new_run()
    assert stat.S_IMODE(root.stat().st_mode) & 0o077 == 0


def test_as_many_checkpoints_are_kept_as_the_settings_say(
    new_run: Callable[[], StateManagerGroup], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATTICE_CHECKPOINT_CONFIG", f"root={root},keep_last=2")
    group = new_run()
    group.register("a")
    for value in range(5):
        group.update("a", value)
        group.save()
    catalog = Catalog(root, keep_last=2)
    catalog.collect()
    assert catalog.steps() == [4, 5]


def test_a_checkpoint_is_not_collected_before_all_of_it_was_read(
    new_run: Callable[[], StateManagerGroup], root: Path
) -> None:
    group = new_run()
    for key in ("a", "b"):
        group.register(key)
        group.update(key, key)
    group.save()
    group = new_run()
    group.register("a")
    other = Catalog(root, keep_last=1)  # another run of the program
    for step in (10, 11, 12):
        other.save(step, {})
    other.collect()
    assert other.steps() == [1, 12]
    group.register("b")
    assert group.get("b") == "b"
    group.save()
    other.collect()
    assert other.steps() == [13]


def test_what_was_refused_does_not_become_trusted_by_being_carried_along(
    new_run: Callable[[], StateManagerGroup], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group = new_run()
    for key, value in (("odd", Odd()), ("strange", Odd()), ("plain", 1), ("other", 2)):
        group.register(key)
        group.update(key, value)
    group.save()
    root.chmod(root.stat().st_mode | stat.S_IWOTH)
    group = new_run()
    with pytest.raises(UnsafeObjectError):
        group.register("odd")
    group.register("plain")
    with caplog.at_level(logging.ERROR, logger="sucrose"):
        group.save()
    assert ["'strange'" in record.getMessage() for record in caplog.records] == [True]
    root.chmod(root.stat().st_mode & ~stat.S_IWOTH)
    group = new_run()
    for key in ("odd", "strange", "plain", "other"):
        group.register(key)
    assert [group.get(key) for key in ("odd", "strange", "plain", "other")] == [None, None, 1, 2]


def test_states_that_somebody_else_has_put_into_the_users_directory_are_refused_and_not_carried_along(
    new_run: Callable[[], StateManagerGroup], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = new_run()
    for key in ("a", "b"):
        group.register(key)
        group.update(key, Odd())
    group.save()
    (generation,) = Catalog(root).generations()
    data = next(str(path) for path in Path(generation.path).rglob("*.safetensors"))
    lstat = os.lstat

    def foreign(path: str) -> os.stat_result:
        info = [*lstat(path)]
        info[4] += (path == data) * 12345
        return os.stat_result(info)

    monkeypatch.setattr(os, "lstat", foreign)
    group = new_run()
    with pytest.raises(UnsafeObjectError, match="12345") as refused:
        group.register("a")
    assert refused.value.path == generation.path
    group.register("a", auto_load=False)
    group.update("a", 1)
    with pytest.raises(UnsafeObjectError):
        group.save()
    assert len(Catalog(root).generations()) == 1


def test_a_state_that_is_read_twice_is_no_ones_twice(new_run: Callable[[], StateManagerGroup], root: Path) -> None:
    group = new_run()
    for key in ("a", "b"):
        group.register(key)
        group.update(key, torch.ones(3))
    group.save()
    saved = LocalCheckpoints(str(root), keep_last=None).newest()
    assert saved is not None
    first, second = (thaw(saved.read("a"), key="a", source="", distrust=None) for _ in range(2))
    first.zero_()
    assert second.tolist() == [1, 1, 1]
    with pytest.raises(KeyError):
        saved.read("a/pickle")
    saved.close()


def test_async_save_waits_for_one_that_is_in_flight(new_run: Callable[[], StateManagerGroup], root: Path) -> None:
    group = new_run()
    group.register("a")
    pending = []
    for value in range(5):
        group.update("a", value)
        pending.append(group.async_save())
    for one in pending:
        assert one is not None
        one.wait()
    assert len(Catalog(root).steps()) == 5


def test_a_save_in_the_middle_of_a_registration_has_the_state(new_run: Callable[[], StateManagerGroup]) -> None:
    class Saving(StateManager):
        def adopt(self, load: Callable[[], Any]) -> None:
            group.save()  # as the handler of a signal may
            super().adopt(load)

    group = new_run()
    for key in ("a", "b"):
        group.register(key)
        group.update(key, key)
    group.save()
    group = new_run()
    group.register("a")
    group.register("b", Saving)
    group = new_run()  # the other one was killed then
    for key in ("a", "b"):
        group.register(key)
        assert group.get(key) == key


def test_states_that_share_tensors_are_told_of_once(
    new_run: Callable[[], StateManagerGroup], caplog: pytest.LogCaptureFixture
) -> None:
    group = new_run()
    model = torch.nn.Linear(2, 2)
    values = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=1.0), "other": torch.ones(2)}
    for key, value in values.items():
        group.register(key)
        group.update(key, value)
    for _ in range(2):
        group.save()
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert "'model' and 'optimizer' share tensors" in record.getMessage()


def test_a_manager_of_the_programs_own_kind_is_saved_and_loaded(new_run: Callable[[], StateManagerGroup]) -> None:
    class Doubled(BaseStateManager):
        value: int | None = None

        def update(self, value: Any) -> None:
            self.value = value

        def get(self) -> Any:
            return self.value

        def delete(self) -> None:
            self.value = None

    group = new_run()
    group.register("own", Doubled)
    assert group.save() is False
    group.update("own", 3)
    group.save()
    group = new_run()
    group.register("own", Doubled)
    assert group.get("own") == 3
    group.save()
    group = new_run()
    group.register("own")
    assert group.get("own") == 3


@pytest.mark.parametrize("home", [None, "relative"])
def test_a_user_without_a_home_is_told_to_choose_a_directory(
    new_run: Callable[[], StateManagerGroup], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str | None
) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("LATTICE_CHECKPOINT_CONFIG")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(ConfigError, match="root="):
        new_run()
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_or_an_object_store_is_refused(
    new_run: Callable[[], StateManagerGroup], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.write_text("a file")
    with pytest.raises(FileExistsError):
        new_run()
    monkeypatch.setenv("LATTICE_CHECKPOINT_CONFIG", "root=s3://bucket/prefix")
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        new_run()


def test_a_root_without_permissions_is_an_error(
    new_run: Callable[[], StateManagerGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sucrose.state.local.os.access", lambda path, mode: False)  # root may do anything
    with pytest.raises(PermissionError):
        new_run()


def test_a_background_save_that_fails_is_raised_by_its_handle_and_the_next_save_goes_on(
    new_run: Callable[[], StateManagerGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = new_run()
    group.register("a")
    group.update("a", 1)

    def fail(*arguments: object, **keywords: object) -> None:
        raise StorageError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("sucrose.storage.local.StagedDirectory.commit", fail)
        pending = group.async_save()
        assert pending is not None
        with pytest.raises(StorageError, match="No space"):
            pending.wait()
    assert group.save()


def test_a_forked_child_saves_nothing_and_says_whose_states_these_are(
    new_run: Callable[[], StateManagerGroup], root: Path
) -> None:
    group = new_run()
    group.register("a")
    group.update("a", 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            group.pause_periodic_saving()
            group.save()
        except ForkError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Catalog(root).latest() is None


def test_one_state_can_be_replaced_in_a_directory_of_checkpoints(tmp_path: Path) -> None:
    checkpoints = LocalCheckpoints(str(tmp_path), keep_last=None)
    checkpoints.save({"a": freeze(1, "a"), "b": freeze(torch.ones(2), "b")})
    save_one(checkpoints, "a", freeze("new", "a"))
    newest = LocalCheckpoints(str(tmp_path), keep_last=None).newest()
    assert newest is not None
    assert sorted(newest.keys()) == ["a", "b"]
    assert thaw(newest.read("a"), key="a", source="here", distrust=None) == "new"
    with pytest.raises(KeyError):
        newest.read("c")

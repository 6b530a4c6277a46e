"""State managers: what each keeps, what it gives, and what becomes of a loaded value."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sucrose.errors import UnsupportedError
from sucrose.state import configured
from sucrose.state.managers import (
    UNSET,
    BaseStateManager,
    StateClosureManager,
    StateCopyManager,
    StateManager,
    StateRefManager,
)
from sucrose.state.picklable import Picklable, PicklableDict, PicklableWrapper, State
from sucrose.state.symbolic import StateSymbolicManager
from sucrose.state.values import FrozenState, freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ALL = [StateManager, StateCopyManager, StateRefManager, StateClosureManager, StateSymbolicManager]
_uids = (f"manager-{number}" for number in itertools.count())


@pytest.fixture
def uid() -> str:
    return next(_uids)


def set_value(manager: BaseStateManager, value: Any) -> None:
    """Updates any kind of manager."""
    if isinstance(manager, StateClosureManager):
        manager.update(lambda: value)
    else:
        manager.update(value)


@pytest.mark.parametrize("kind", ALL)
def test_a_manager_has_no_value_until_it_is_set_and_none_after_it_was_deleted(
    kind: type[BaseStateManager], uid: str
) -> None:
    manager = kind(uid)
    assert manager.get() is None
    assert manager.state_to_save() is UNSET
    value = PicklableDict(a=1)
    set_value(manager, value)
    assert manager.get() == value
    manager.update(None)
    assert manager.get() == value
    manager.delete()
    assert manager.get() is None
    assert manager.state_to_save() is UNSET
    set_value(manager, value)
    assert manager.get() == value


@pytest.mark.parametrize("kind", ALL)
def test_there_is_one_manager_for_each_class_and_uid(kind: type[BaseStateManager], uid: str) -> None:
    manager = kind(uid)
    value = PicklableDict(a=1)
    set_value(manager, value)
    assert kind(uid) is manager
    assert kind(uid=uid) is manager
    assert manager.get() == value
    assert kind(f"{uid}_other") is not manager
    assert kind(f"{uid}_other").get() is None
    assert str(manager) == f"{kind.__name__}:{uid}"
    assert manager.uid == uid
    others = {id(other(uid)) for other in ALL}
    assert len(others) == len(ALL)


@pytest.mark.parametrize("uid", ["", "_", "a_b", "a/b", "ä", "*", "StateManager:x"])
def test_any_text_is_a_uid(uid: str) -> None:
    assert StateManager(uid).uid == uid
    assert StateManager(uid) is StateManager(uid)


@pytest.mark.parametrize("uid", [None, 3, b"a", ["a"]])
def test_a_uid_that_is_no_text_is_refused(uid: Any) -> None:
    with pytest.raises(TypeError, match="uid"):
        StateManager(uid)


def test_the_base_class_makes_no_managers(uid: str) -> None:
    with pytest.raises(TypeError, match="abstract"):
        BaseStateManager(uid)  # type: ignore[abstract]
    assert issubclass(StateManager, BaseStateManager)


def test_a_manager_of_the_program_needs_update_get_and_delete_alone(uid: str, checkpoints: Checkpoints) -> None:
    class Counted(BaseStateManager):
        def __init__(self, uid: str) -> None:
            self.updates: list[Any] = []

        def update(self, value: Any) -> None:
            self.updates.append(value)

        def get(self) -> Any:
            return self.updates[-1] if self.updates else None

        def delete(self) -> None:
            self.updates.clear()

    manager = Counted(uid)
    assert Counted(uid) is manager
    assert str(manager) == f"Counted:{uid}"
    assert manager.state_to_save() is UNSET
    manager.update([1])
    manager.save()
    manager.delete()
    manager.load()
    assert manager.updates == [[1]]
    manager.update([2])
    assert manager.state_to_save() == [2]


def test_threads_that_ask_at_once_get_the_same_manager(uid: str) -> None:
    class Slow(StateManager):
        def __init__(self, uid: str) -> None:
            barrier.wait()
            super().__init__(uid)

    barrier = threading.Barrier(4)
    found: list[Slow] = []
    threads = [threading.Thread(target=lambda: found.append(Slow(uid))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_a_reference_shows_later_changes(uid: str) -> None:
    manager = StateManager(uid)
    value = [1]
    manager.update(value)
    value.append(2)
    assert manager.get() is value
    assert manager.state_to_save() is value


def test_a_copy_is_apart_from_what_it_was_made_of_and_from_what_is_got(uid: str) -> None:
    manager = StateCopyManager(uid)
    value = {"a": [1, torch.zeros(2)]}
    manager.update(value)
    value["a"][1].fill_(5)
    value["a"].append(2)
    got = manager.get()
    assert got["a"][0] == 1
    assert got["a"][1].tolist() == [0, 0]
    got["a"][1].fill_(7)
    assert manager.get()["a"][1].tolist() == [0, 0]
    assert manager.state_to_save()["a"][1].tolist() == [0, 0]


def test_what_cannot_be_copied_is_refused_and_the_earlier_copy_stays(uid: str) -> None:
    manager = StateCopyManager(uid)
    manager.update([1])
    with pytest.raises(UnsupportedError, match="StateManager") as refused:
        manager.update(threading.Lock())
    assert refused.value.key == uid
    assert manager.get() == [1]


def test_a_weak_reference_lasts_as_long_as_the_program_keeps_the_object(uid: str) -> None:
    manager = StateRefManager(uid)
    value = PicklableDict(a=1)
    manager.update(value)
    assert manager.get() is value
    assert manager.state_to_save() is value
    del value
    gc.collect()
    assert manager.get() is None
    assert manager.state_to_save() is UNSET


@pytest.mark.parametrize("value", [{"a": 1}, [1], 3, "text", (1, 2)])
def test_a_value_without_weak_references_is_told_what_to_do(uid: str, value: Any) -> None:
    manager = StateRefManager(uid)
    with pytest.raises(TypeError, match=r"PicklableDict.*PicklableWrapper"):
        manager.update(value)
    assert manager.get() is None


def test_a_function_is_asked_each_time(uid: str) -> None:
    manager = StateClosureManager(uid)
    loss = 0.1
    manager.update(lambda: loss)
    assert manager.get() == 0.1
    loss = 0.2
    assert manager.get() == 0.2
    assert manager.state_to_save() == 0.2


def test_a_function_may_return_none(uid: str) -> None:
    manager = StateClosureManager(uid)
    manager.update(lambda: None)
    assert manager.get() is None
    assert manager.state_to_save() is None


def test_what_cannot_be_called_is_refused(uid: str) -> None:
    with pytest.raises(TypeError, match="lambda"):
        StateClosureManager(uid).update(0.1)


def test_an_error_of_the_function_names_the_state_when_it_is_saved(uid: str) -> None:
    manager = StateClosureManager(uid)
    manager.update(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        manager.get()
    with pytest.raises(UnsupportedError, match="ZeroDivisionError") as failed:
        manager.state_to_save()
    assert failed.value.key == uid
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


class Load:
    """Makes a value of a checkpoint, and counts how often."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        value, self.value = self.value, None
        return value


@pytest.mark.parametrize("kind", ALL)
def test_a_loaded_value_is_made_when_it_is_first_needed_and_once(kind: type[BaseStateManager], uid: str) -> None:
    manager = kind(uid)
    value = PicklableDict(a=1)
    load = Load(value)
    manager.adopt(load)
    assert load.calls == 0
    assert manager.untouched() is load
    assert manager.get() is value
    assert manager.untouched() is None
    assert manager.get() is value
    assert manager.state_to_save() is value
    assert load.calls == 1
    other = PicklableDict(b=2)
    set_value(manager, other)
    assert manager.get() == other


@pytest.mark.parametrize("kind", ALL)
def test_a_loaded_value_is_dropped_by_delete_and_replaced_by_update(kind: type[BaseStateManager], uid: str) -> None:
    manager = kind(uid)
    load = Load(PicklableDict())
    manager.adopt(load)
    manager.delete()
    assert manager.get() is None
    manager.adopt(load)
    other = PicklableDict(b=2)
    set_value(manager, other)
    assert manager.get() == other
    assert manager.untouched() is None
    assert load.calls == 0


@pytest.mark.parametrize("kind", ALL)
def test_a_load_that_fails_is_tried_again(kind: type[BaseStateManager], uid: str) -> None:
    manager = kind(uid)
    value = PicklableDict()
    attempts = iter([OSError("not yet"), OSError("nor now")])

    def load() -> Any:
        for error in attempts:
            raise error
        return value

    manager.adopt(load)
    with pytest.raises(OSError, match="not yet"):
        manager.get()
    assert manager.untouched() is load
    with pytest.raises(OSError, match="nor now"):
        manager.state_to_save()
    assert manager.get() is value


def test_a_loaded_value_is_owned_until_the_first_get_and_a_save_is_none(uid: str) -> None:
    manager = StateRefManager(uid)
    load = Load(PicklableDict(a=1))
    manager.adopt(load)
    assert manager.state_to_save() == {"a": 1}
    gc.collect()
    assert manager.state_to_save() == {"a": 1}
    value = manager.get()
    assert value == {"a": 1}
    assert manager.get() is value
    del value
    gc.collect()
    assert manager.get() is None
    assert manager.state_to_save() is UNSET
    assert load.calls == 1


def test_a_loaded_value_without_weak_references_stays_owned(uid: str) -> None:
    manager = StateRefManager(uid)
    manager.adopt(Load([1]))
    assert manager.get() == [1]
    gc.collect()
    assert manager.get() == [1]
    assert manager.state_to_save() == [1]


def test_a_loaded_copy_is_the_object_itself_until_the_next_update(uid: str) -> None:
    manager = StateCopyManager(uid)
    manager.adopt(Load([1]))
    manager.get().append(2)
    assert manager.get() == [1, 2]
    assert manager.state_to_save() == [1, 2]


def test_a_loaded_none_is_a_value(uid: str) -> None:
    manager = StateClosureManager(uid)
    load = Load(None)
    manager.adopt(load)
    assert manager.get() is None
    assert manager.state_to_save() is None
    assert load.calls == 1


def test_a_handler_that_saves_in_the_middle_of_a_load_gets_a_value_and_so_does_the_load(uid: str) -> None:
    manager = StateManager(uid)
    in_handler = []

    def load() -> Any:
        if not in_handler:
            in_handler.append(None)
            in_handler[0] = manager.state_to_save()
        return [1]

    manager.adopt(load)
    value = manager.get()
    assert value == [1]
    assert in_handler[0] is value
    assert manager.get() is value


def test_threads_that_need_a_loaded_value_at_once_get_the_same(uid: str) -> None:
    manager = StateManager(uid)
    entered = threading.Event()
    go_on = threading.Event()
    calls = []

    def load() -> Any:
        calls.append(None)
        entered.set()
        go_on.wait()
        return [1]

    manager.adopt(load)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(manager.get())) for _ in range(3)]
    for thread in threads:
        thread.start()
    entered.wait()
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert found[0] is found[1] is found[2]


def test_an_update_during_a_load_stays(uid: str) -> None:
    manager = StateManager(uid)

    def load() -> Any:
        manager.update("new")
        return "old"

    manager.adopt(load)
    assert manager.get() == "old"
    assert manager.get() == "new"


class Checkpoints:
    """Keeps states in memory; all that single managers need of checkpoints."""

    where = "memory"
    distrust = None

    def __init__(self) -> None:
        self.states: dict[str, FrozenState] = {}

    def save(self, states: Mapping[str, FrozenState]) -> None:
        self.states = dict(states)

    def newest(self) -> Checkpoints | None:
        return self if self.states else None

    def keys(self) -> list[str]:
        return list(self.states)

    def read(self, key: str) -> FrozenState:
        return self.states[key]

    def close(self) -> None:
        pass


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    made = Checkpoints()
    monkeypatch.setattr(configured, "configured_checkpoints", lambda: made)
    return made


@pytest.mark.parametrize("kind", ALL)
def test_a_manager_saves_and_loads_its_state_alone(
    kind: type[BaseStateManager], uid: str, checkpoints: Checkpoints
) -> None:
    checkpoints.states["of others"] = freeze([7], "of others")
    manager = kind(uid)
    value = PicklableDict(weight=torch.ones(2))
    set_value(manager, value)
    manager.save()
    assert checkpoints.keys() == ["of others", uid]
    value["weight"] = None
    manager.delete()
    checkpoints.states[uid] = FrozenState(*(getattr(checkpoints.states[uid], part) for part in ("pickled", "storages")))
    manager.load()
    assert manager.get()["weight"].tolist() == [1, 1]
    assert thaw(checkpoints.read("of others"), key="", source="", distrust=None) == [7]


def test_loading_what_was_never_saved_changes_nothing(uid: str, checkpoints: Checkpoints) -> None:
    manager = StateManager(uid)
    manager.update([1])
    manager.load()
    checkpoints.states["of others"] = freeze([7], "of others")
    manager.load()
    assert manager.get() == [1]


def test_saving_without_a_value_is_left_out_and_logged(
    uid: str, checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "sucrose"):
        StateManager(uid).save()
    assert checkpoints.states == {}
    assert [record.message for record in caplog.records] == [f"StateManager:{uid} is not saved: it has no value"]


def test_the_classes_for_states_are_states() -> None:
    assert issubclass(PicklableDict, dict)
    for kind in (PicklableDict, PicklableWrapper):
        assert issubclass(kind, Picklable)
    assert issubclass(Picklable, State)


def test_a_picklable_dict_has_items_and_no_attributes() -> None:
    value = PicklableDict({"a": 1}, b=2)
    assert value == {"a": 1, "b": 2}
    with pytest.raises(AttributeError):
        value.a = 1  # type: ignore[attr-defined]
    copied = value.copy()
    assert type(copied) is PicklableDict
    assert copied == value
    assert repr(value) == "PicklableDict({'a': 1, 'b': 2})"


@pytest.mark.parametrize("make", [lambda: PicklableDict(a=1), lambda: PicklableWrapper([1])])
def test_subclasses_of_the_classes_for_states_keep_their_attributes(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = type(make())
    kind = type("Extended", (base,), {"__module__": __name__})
    monkeypatch.setitem(globals(), "Extended", kind)
    value = kind(make() if base is PicklableDict else [1])
    value.note = "kept"
    restored = thaw(freeze(value, "value"), key="value", source="memory", distrust=None)
    assert type(restored) is kind
    assert restored.note == "kept"
    assert restored == value


def test_wrappers_are_equal_where_their_values_are() -> None:
    assert PicklableWrapper([1]) == PicklableWrapper([1])
    assert PicklableWrapper(1) != PicklableWrapper(2)
    assert PicklableWrapper(1) != 1
    assert PicklableWrapper().value is None
    assert repr(PicklableWrapper("a")) == "PicklableWrapper('a')"

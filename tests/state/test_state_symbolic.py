"""States that are variables of the program, found in the call that names them."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from warm_python import WarmPython

from sucrose.state.managers import UNSET
from sucrose.state.symbolic import StateSymbolicManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_uids = (f"symbolic-{number}" for number in itertools.count())
loss_of_module: Any = None


@pytest.fixture
def manager() -> Iterator[StateSymbolicManager]:
    manager = StateSymbolicManager(next(_uids))
    yield manager
    manager.delete()


def test_a_local_variable_is_followed(manager: StateSymbolicManager) -> None:
    loss = 0.1
    manager.update(loss)
    assert manager.get() == 0.1
    loss = 0.2
    assert manager.get() == 0.2
    assert manager.state_to_save() == 0.2


def test_the_argument_is_found_by_its_keyword_and_over_several_lines(manager: StateSymbolicManager) -> None:
    loss, other = 0.1, 0.1
    manager.update(value=loss)
    loss = 0.2
    assert manager.get() == 0.2
    manager.update(
        # as formatters leave it
        other,
    )
    other = 0.3
    assert manager.get() == 0.3


def test_calls_on_one_line_and_inside_each_other_are_told_apart() -> None:
    first, second = (StateSymbolicManager(next(_uids)) for _ in range(2))
    a, b = 1, 1
    (first.update(a), second.update(b))
    a, b = 2, 3
    assert (first.get(), second.get()) == (2, 3)
    print(first.update(b), second.update(a))
    assert (first.get(), second.get()) == (3, 2)


def test_a_variable_of_the_module_is_followed_from_a_function(manager: StateSymbolicManager) -> None:
    global loss_of_module  # noqa: PLW0603 - the variable of this test
    loss_of_module = 0.1
    manager.update(loss_of_module)
    loss_of_module = 0.2
    assert manager.get() == 0.2


def test_variables_of_surrounding_and_captured_by_inner_functions_are_followed(manager: StateSymbolicManager) -> None:
    loss = 0.1

    def outer_variable() -> None:
        nonlocal loss
        manager.update(loss)
        loss = 0.2

    outer_variable()
    assert manager.get() == 0.2
    loss = 0.3
    assert manager.get() == 0.3

    steps = 1

    def count() -> None:
        nonlocal steps
        steps += 1

    manager.update(steps)
    count()
    assert manager.get() == 2


def test_the_variable_of_a_loop_is_followed(manager: StateSymbolicManager) -> None:
    seen = []
    for epoch in range(3):
        if epoch == 0:
            manager.update(epoch)
        seen.append(manager.get())
    assert seen == [0, 1, 2]


def test_the_variable_of_a_comprehension_is_found(manager: StateSymbolicManager) -> None:
    assert [(manager.update(x), manager.get()) for x in (5, 6)] == [(None, 5), (None, 6)]


def test_a_variable_in_a_class_body_is_found(manager: StateSymbolicManager) -> None:
    class Settings:
        rate = 0.1
        manager.update(rate)
        rate = 0.2  # noqa: PIE794 - it changes
        seen = manager.get()

    assert Settings.seen == 0.2


def test_a_variable_in_a_method_is_found(manager: StateSymbolicManager) -> None:
    class Trainer:
        def train(self) -> None:
            loss = 0.5
            manager.update(loss)
            loss = 0.25

    Trainer().train()
    assert manager.get() == 0.25


def test_the_last_value_remains_when_the_function_has_returned(manager: StateSymbolicManager) -> None:
    def train() -> None:
        loss = 1.0
        manager.update(loss)
        loss = 0.5

    train()
    gc.collect()
    assert manager.get() == 0.5
    assert manager.state_to_save() == 0.5


def test_the_last_value_remains_when_the_function_has_failed(manager: StateSymbolicManager) -> None:
    def train() -> None:
        loss = 1.0
        manager.update(loss)
        loss = 0.5
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        train()
    assert manager.get() == 0.5


def test_the_last_value_remains_when_a_generator_has_ended_or_was_dropped(manager: StateSymbolicManager) -> None:
    def batches() -> Iterator[int]:
        position = 0
        manager.update(position)
        for position in range(1, 4):
            yield position

    for position in batches():
        assert manager.get() == position
    assert manager.get() == 3

    dropped = batches()
    next(dropped)
    next(dropped)
    del dropped
    assert manager.get() == 2


def test_the_present_value_is_seen_from_another_thread(manager: StateSymbolicManager) -> None:
    loss = 0.1
    manager.update(loss)
    seen = []
    for loss in (0.2, 0.3):  # noqa: B007 - the thread looks at it
        thread = threading.Thread(target=lambda: seen.append(manager.state_to_save()))
        thread.start()
        thread.join()
    assert seen == [0.2, 0.3]


def test_a_thread_can_set_a_variable_of_its_own(manager: StateSymbolicManager) -> None:
    def train() -> None:
        loss = 1
        manager.update(loss)
        loss = 2

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert manager.get() == 2


def test_a_deleted_variable_is_unset(manager: StateSymbolicManager) -> None:
    global loss_of_module  # noqa: PLW0603 - the variable of this test
    loss_of_module = loss = 7
    manager.update(loss)
    del loss
    assert manager.get() is None
    assert manager.state_to_save() is UNSET
    manager.update(loss_of_module)
    del loss_of_module
    assert manager.state_to_save() is UNSET


def test_a_local_variable_is_not_mistaken_for_one_of_the_module(manager: StateSymbolicManager) -> None:
    uids = 3
    del uids
    _uids = 3
    manager.update(_uids)
    del _uids
    assert manager.state_to_save() is UNSET


@pytest.mark.parametrize(
    "argument",
    ["model.loss", "losses[0]", "float('1')", "0.5", "loss + 1", "-loss", "(loss, loss)", "lambda: loss", "f'{loss}'"],
)
def test_what_is_no_plain_variable_is_refused(manager: StateSymbolicManager, tmp_path: Path, argument: str) -> None:
    source = f"def run(manager, model, losses, loss):\n    manager.update({argument})\n"
    path = tmp_path / "program.py"
    path.write_text(source)
    names: dict[str, Any] = {}
    exec(compile(source, str(path), "exec"), names)
    model = type("Model", (), {"loss": 0.1})
    with pytest.raises(TypeError, match="StateClosureManager"):
        names["run"](manager, model, [0.1], 0.1)
    assert manager.get() is None


def test_arguments_that_the_source_does_not_show_are_refused(manager: StateSymbolicManager) -> None:
    loss = 0.1
    arguments, keywords = [loss], {"value": loss}
    with pytest.raises(TypeError, match="StateClosureManager"):
        manager.update(*arguments)
    with pytest.raises(TypeError, match="StateClosureManager"):
        manager.update(**keywords)
    with pytest.raises(TypeError, match="StateClosureManager"):
        list(map(manager.update, arguments))


def test_a_refused_update_leaves_the_earlier_variable(manager: StateSymbolicManager) -> None:
    loss = 1
    manager.update(loss)
    with pytest.raises(TypeError):
        manager.update(loss + 1)
    loss = 2
    assert manager.get() == 2


def test_a_variable_that_is_none_is_ignored(manager: StateSymbolicManager) -> None:
    best, loss = None, 1
    manager.update(loss)
    manager.update(best)
    assert manager.get() == 1


def test_a_subclass_that_extends_update_finds_the_variable_of_its_caller() -> None:
    class Logged(StateSymbolicManager):
        updates = 0

        def update(self, value: Any) -> None:
            self.updates += 1
            super().update(value)

    manager = Logged(next(_uids))
    loss = 1
    manager.update(loss)
    loss = 2
    assert manager.get() == 2
    assert manager.updates == 1


def test_a_function_of_the_program_that_updates_names_its_own_variable(manager: StateSymbolicManager) -> None:
    def update(value: int) -> None:
        manager.update(value)
        value += 1

    loss = 1
    update(loss)
    assert manager.get() == 2


def test_code_without_source_is_understood_where_one_variable_is_the_object(manager: StateSymbolicManager) -> None:
    names: dict[str, Any] = {"manager": manager}
    exec("loss = [1]\nother = [1]\nmanager.update(loss)\nloss = [2]", names)
    assert manager.get() == [2]
    exec("def train():\n    steps = [3]\n    manager.update(steps)\n    steps = [4]\ntrain()", names)
    assert manager.get() == [4]


@pytest.mark.parametrize("code", ["same = loss = [1]\nmanager.update(loss)", "manager.update([1])"])
def test_code_without_source_that_leaves_a_doubt_is_refused(manager: StateSymbolicManager, code: str) -> None:
    with pytest.raises(TypeError, match="StateClosureManager"):
        exec(code, {"manager": manager})


def test_a_loaded_value_is_there_until_the_next_update(manager: StateSymbolicManager) -> None:
    manager.adopt(lambda: 0.2)
    assert manager.get() == 0.2
    assert manager.state_to_save() == 0.2
    loss = 0.3
    manager.update(loss)
    loss = 0.4
    assert manager.get() == 0.4


@pytest.mark.parametrize("forget", ["delete", "update", "adopt"])
def test_the_frame_of_the_function_is_dropped_when_it_is_not_needed_any_more(
    manager: StateSymbolicManager, forget: str
) -> None:
    class Big:
        pass

    def train() -> weakref.ref[Big]:
        big = Big()
        loss = 1
        manager.update(loss)
        return weakref.ref(big)

    big = train()
    assert big() is not None
    other = 2
    if forget == "delete":
        manager.delete()
    elif forget == "update":
        manager.update(other)
    else:
        manager.adopt(lambda: 3)
    gc.collect()
    assert big() is None


_PROGRAM = """
from sucrose.state.group import StateManagerGroup
from sucrose.state.symbolic import StateSymbolicManager

group = StateManagerGroup()
for key in "abcd":
    group.register(key, StateSymbolicManager)
loss = 0.1
group.update("a", loss)

def train():
    steps, epoch, rate = 10, 20, 30
    group.update("b", value=steps)
    group.update(
        value=epoch,
        key="c",
    )
    group.update(key="d", value=rate)
    steps, epoch, rate = 11, 21, 31

loss = 0.2
train()
print([group.get(key) for key in "abcd"])
"""


@pytest.mark.parametrize("has_source", [True, False])
def test_a_program_names_its_variables_through_the_group(tmp_path: Path, has_source: bool) -> None:
    path = tmp_path / "program.py"
    path.write_text(_PROGRAM)
    program = f"exec(compile({_PROGRAM!r}, {str(path)!r}, 'exec'))" if has_source else _PROGRAM
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    environment["LATTICE_CHECKPOINT_CONFIG"] = f"root={tmp_path}/states"
    python = WarmPython()
    try:
        result = python.run(program, [], environment)
    finally:
        python.close()
    assert (result.stdout, result.stderr) == ("[0.2, 11, 21, 31]\n", "")

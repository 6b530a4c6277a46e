"""What a tracked loader is to the program, and what its place is when something is out of the ordinary."""

from __future__ import annotations

import copy
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from data_order_runs import Noisy, Plain, own_generator, seed, with_workers
from torch.utils.data import DataLoader

from sucrose.data_order import track_loader
from sucrose.errors import FormatVersionError, StateMismatchError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings(
    "ignore:This DataLoader will create:UserWarning", "ignore:'set_vital' is deprecated:UserWarning"
)


def nothing() -> None:
    """At boundaries."""


def shuffled(length: int = 10) -> DataLoader[Any]:
    return DataLoader(Plain(length), batch_size=2, shuffle=True, generator=own_generator())


def values(loader: Any) -> list[list[float]]:
    return [batch.tolist() for batch in loader]


class Numbers:
    """A loader of the program's own, which goes on from pass to pass."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self) -> Iterator[int]:
        for _ in range(4):
            self.position += 1
            yield self.position

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


# The object


def test_the_loader_is_still_what_it_was_to_the_program() -> None:
    loader = shuffled()
    tracked = track_loader(loader, nothing)
    assert tracked.loader is loader
    assert isinstance(loader, DataLoader)
    assert (type(loader).__name__, type(loader).__module__) == ("DataLoader", DataLoader.__module__)
    assert (len(loader), loader.batch_size, len(iter(loader))) == (5, 2, 5)
    assert vars(loader).keys() == vars(shuffled()).keys()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
def test_copies_and_pickles_are_of_the_class_that_it_had(duplicate: Any) -> None:
    loader = DataLoader(Plain(), batch_size=2)
    boundaries = []
    tracked = track_loader(loader, lambda: boundaries.append(1))
    other = duplicate(loader)
    assert type(other) is DataLoader
    assert values(other) == values(DataLoader(Plain(), batch_size=2))
    assert boundaries == []
    assert tracked.loader is loader


def test_a_boundary_is_where_a_batch_is_asked_for_and_where_there_is_none() -> None:
    loader = shuffled()
    used = []
    tracked = track_loader(loader, lambda: used.append((tracked.state_dict()["current"] or {}).get("used")))
    assert len(values(loader)) == 5
    assert used == [0, 1, 2, 3, 4, 5, None]


def test_a_loader_that_is_tracked_twice_has_one_place_and_tells_both() -> None:
    loader = shuffled()
    told: list[str] = []
    one = track_loader(loader, lambda: told.append("one"))
    other = track_loader(loader, lambda: told.append("other"))
    next(iter(loader))
    assert told == ["one", "other"]
    batches = iter(loader)
    next(batches)
    assert one.state_dict()["begun"] == other.state_dict()["begun"] == 2
    del other
    told.clear()
    next(batches)
    assert told == ["one"]


def test_a_forked_child_has_no_boundaries() -> None:
    loader = shuffled()
    boundaries: list[int] = []
    tracked = track_loader(loader, lambda: boundaries.append(os.getpid()))
    child = os.fork()
    if child == 0:
        os._exit(len(values(loader)) if not boundaries else 99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert tracked.state_dict()["begun"] == 0


@pytest.mark.parametrize("value", [[1, 2], iter([1]), torch.nn.Linear(1, 1), "text"])
def test_what_has_no_place_cannot_be_tracked(value: Any) -> None:
    with pytest.raises(UnsupportedError):
        track_loader(value, nothing)


# The place


def test_skipped_is_what_enumerate_has_to_begin_with() -> None:
    loader = shuffled()
    tracked = track_loader(loader, nothing)
    assert tracked.skipped == 0
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state = tracked.state_dict()

    resumed = shuffled()
    tracked = track_loader(resumed, nothing)
    tracked.load_state_dict(state)
    assert [number for number, _ in enumerate(resumed, start=tracked.skipped)] == [3, 4]
    assert [number for number, _ in enumerate(resumed, start=tracked.skipped)] == [0, 1, 2, 3, 4]


def test_passes_of_the_epoch_that_were_over_yield_nothing_when_it_is_resumed() -> None:
    seed(1)
    train, test = shuffled(), DataLoader(Noisy(6), batch_size=2)
    tracked = {"train": track_loader(train, nothing), "test": track_loader(test, nothing)}
    values(train)
    for one in tracked.values():
        one.finish_epoch()
    values(train)
    values(train)
    batches = iter(test)
    next(batches)
    states = {name: one.state_dict() for name, one in tracked.items()}
    rest = [batch.tolist() for batch in batches]
    expected = values(train)

    seed(2)
    train, test = shuffled(), DataLoader(Noisy(6), batch_size=2)
    tracked = {"train": track_loader(train, nothing), "test": track_loader(test, nothing)}
    for name, one in tracked.items():
        one.load_state_dict(states[name])
    assert [values(train), values(train), values(test), values(train)] == [[], [], rest, expected]


def test_the_place_does_not_change_until_the_program_is_there_again() -> None:
    loader = shuffled()
    tracked = track_loader(loader, nothing)
    values(loader)
    batches = iter(loader)
    next(batches)
    state = tracked.state_dict()
    rest = [batch.tolist() for batch in batches]
    for _ in range(3):  # interrupted again and again, at the pass that was over
        places: list[Any] = []
        loader = shuffled()
        tracked = track_loader(loader, lambda: places.append(tracked.state_dict()))  # noqa: B023 - of this round
        tracked.load_state_dict(state)
        assert values(loader) == []
        state = places[-1]
    assert values(loader) == rest


def test_a_pass_may_go_on_in_the_next_epoch() -> None:
    loader = shuffled()
    tracked = track_loader(loader, nothing)
    batches = iter(loader)
    next(batches)
    next(batches)
    tracked.finish_epoch()
    state = tracked.state_dict()
    rest = [batch.tolist() for batch in batches]
    resumed = shuffled()
    tracked = track_loader(resumed, nothing)
    tracked.load_state_dict(state)
    assert values(resumed) == rest


def test_a_batch_that_could_not_be_made_was_not_used() -> None:
    class Fragile(Plain):
        fails = True

        def __getitem__(self, index: int) -> torch.Tensor:
            if self.fails and index == 5:
                raise RuntimeError("unreadable")
            return super().__getitem__(index)

    loader = DataLoader(Fragile(), batch_size=2)
    tracked = track_loader(loader, nothing)
    batches = iter(loader)
    with pytest.raises(RuntimeError, match="unreadable"):
        for _ in batches:
            pass
    state = tracked.state_dict()
    Fragile.fails = False
    tracked.load_state_dict(state)
    assert values(loader)[0] == [4.0, 5.0]


def test_going_back_in_the_same_program_forgets_the_pass_that_is_open() -> None:
    loader = shuffled()
    tracked = track_loader(loader, nothing)
    batches = iter(loader)
    next(batches)
    state = tracked.state_dict()
    next(batches)
    tracked.load_state_dict(state)
    next(batches)  # of the pass that nobody follows any more
    assert tracked.state_dict()["current"]["used"] == 1
    assert len(values(loader)) == 4


def test_fewer_data_than_were_used_are_an_error_and_leave_the_generators_alone() -> None:
    loader = shuffled(10)
    tracked = track_loader(loader, nothing)
    batches = iter(loader)
    for _ in range(4):
        next(batches)
    shorter = shuffled(4)
    state = tracked.state_dict()
    tracked = track_loader(shorter, nothing)
    tracked.load_state_dict(state)
    before = torch.get_rng_state()
    for _ in range(2):
        with pytest.raises(StateMismatchError, match="used 4 batches"):
            iter(shorter)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_that_skip_fast_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> DataLoader[Any]:
        return with_workers(Plain(), batch_size=2, shuffle=True, generator=own_generator())

    loader = make()
    tracked = track_loader(loader, nothing)
    batches = iter(loader)
    next(batches)
    next(batches)
    state = tracked.state_dict()
    rest = [batch.tolist() for batch in batches]
    monkeypatch.setenv("SUCROSE_LOADER_SKIP", "fast")
    resumed = make()
    track_loader(resumed, nothing).load_state_dict(state)
    assert values(resumed) == rest


# Loaders and states of another kind


def test_a_loader_of_the_program_s_own_keeps_its_place_itself() -> None:
    loader = Numbers()
    boundaries: list[int] = []
    tracked = track_loader(loader, lambda: boundaries.append(loader.position))
    assert list(loader) == [1, 2, 3, 4]
    assert boundaries == [0, 1, 2, 3, 4, 4]
    tracked.finish_epoch()
    state = tracked.state_dict()
    resumed = Numbers()
    track_loader(resumed, nothing).load_state_dict(state)
    assert list(resumed) == [5, 6, 7, 8]


def test_a_state_that_the_loader_itself_has_given_is_taken() -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    loader = stateful.StatefulDataLoader(Plain(), batch_size=2)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    resumed = stateful.StatefulDataLoader(Plain(), batch_size=2)
    track_loader(resumed, nothing).load_state_dict(state)
    assert values(resumed)[0] == [2.0, 3.0]


def test_a_state_of_something_else_is_an_error() -> None:
    with pytest.raises(StateMismatchError):
        track_loader(shuffled(), nothing).load_state_dict({"weight": torch.ones(2)})


def test_a_place_of_a_newer_release_is_an_error() -> None:
    tracked = track_loader(shuffled(), nothing)
    with pytest.raises(FormatVersionError):
        tracked.load_state_dict({**tracked.state_dict(), "sucrose_loader": 1000})

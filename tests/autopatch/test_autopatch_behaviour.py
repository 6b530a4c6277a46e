"""Autopatch changes nothing for the program: its objects, its pickles, its iterators are as ever."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from interrupted_runs import SCRIPTS, Runs, final_state, is_equal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TERMINATED = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.close()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "train.py"


def test_the_programs_objects_are_as_ever(runs: Runs, script: Path, tmp_path: Path) -> None:
    script.write_text("""
import copy, inspect, io, pickle, weakref
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
assert list(inspect.signature(optimizer.step).parameters) == ["closure"]
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
loader = DataLoader(range(10), batch_size=5)
iterator = iter(loader)
assert type(iterator) is _SingleProcessDataLoaderIter
assert [len(batch) for batch in iterator] == [5, 5]
assert list(inspect.signature(nn.Linear).parameters)[:2] == ["in_features", "out_features"]
assert list(inspect.signature(DataLoader).parameters)[:2] == ["dataset", "batch_size"]
model(torch.ones(3, 2)).sum().backward()
optimizer.step()
scheduler.step()
assert enumerate([]).__class__ is enumerate and enumerate.__module__ == "builtins"
for made in (model, optimizer, loader, scheduler):
    assert not [name for name in vars(made) if "sucrose" in name]
    assert b"sucrose" not in pickle.dumps(made if made is not scheduler else scheduler.state_dict())
other = pickle.loads(pickle.dumps(model))
assert all(map(torch.equal, other.state_dict().values(), model.state_dict().values()))
assert isinstance(copy.deepcopy(optimizer), torch.optim.SGD)
compiled = torch.compile(model, backend="eager")
assert torch.equal(compiled(torch.ones(3, 2)), model(torch.ones(3, 2)))
with torch.profiler.profile() as profile:
    for batch in loader:
        optimizer.step()
names = {event.key for event in profile.key_averages()}
assert {"enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "Optimizer.step#SGD.step"} <= names
""")
    result = runs.run(script, tmp_path)
    assert result.returncode == 0, result.stderr


def test_what_the_program_drops_is_freed_when_it_goes_on(runs: Runs, script: Path, tmp_path: Path) -> None:
    script.write_text("""
import weakref
import torch
from torch import nn
from torch.utils.data import DataLoader

def train_one():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in DataLoader(torch.ones(4, 2)):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    return weakref.ref(model), weakref.ref(optimizer)

first = train_one()
second = train_one()
assert [one() for one in first] == [None, None]
""")
    result = runs.run(script, tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_programs_own_states_are_saved_and_found_with_it(runs: Runs, script: Path, tmp_path: Path) -> None:
    script.write_text("""
import torch
from torch import nn
from torch.utils.data import DataLoader
from sucrose.state.group import StateManagerGroup

group = StateManagerGroup()
group.register("seen")
seen = group.get("seen") or []
group.update("seen", seen)
print("found", seen)
torch.manual_seed(1)
model = nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x in DataLoader(torch.arange(6.0).reshape(6, 1)):
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
    seen.append(int(x))
    assert group.list() == ["seen"]
    assert group.get() is seen
torch.save(seen, "final.pt")
""")
    assert runs.run(script, tmp_path, "step 3").returncode == TERMINATED
    result = runs.run(script, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "found [0, 1, 2]" in result.stdout
    assert final_state(tmp_path)[-3:] == [3, 4, 5]


def test_copies_that_are_made_by_what_was_computed_find_their_states(runs: Runs, script: Path, tmp_path: Path) -> None:
    script.write_text("""
import copy
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(4)
model = nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
best, lowest = None, float("inf")
for epoch in range(4):
    for x in DataLoader(torch.arange(8.0).reshape(8, 1), shuffle=True):
        loss = (model(x) - 3 * x).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = sum((model(x) - 3 * x).pow(2).sum().item() for x in DataLoader(torch.arange(4.0).reshape(4, 1)))
    if error < lowest:
        best, lowest = copy.deepcopy(model), error
torch.save({"model": model.state_dict(), "best": best.state_dict()}, "final.pt")
""")
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    whole.mkdir()
    interrupted.mkdir()
    assert runs.run(script, whole).returncode == 0
    assert runs.run(script, interrupted, "step 29").returncode == TERMINATED
    result = runs.run(script, interrupted)
    assert result.returncode == 0, result.stderr
    assert is_equal(final_state(interrupted)["model"], final_state(whole)["model"])


def test_a_root_that_others_can_write_is_resumed_from_without_running_pickles(runs: Runs, tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o777)
    settings = {"LATTICE_CHECKPOINT_CONFIG": f"root={root}"}
    assert runs.run(SCRIPTS / "accumulation.py", tmp_path, "linear 25", settings=settings).returncode == TERMINATED
    result = runs.run(SCRIPTS / "accumulation.py", tmp_path, settings=settings)
    assert result.returncode == 0, result.stderr
    assert "resumed: 3 optimizer steps" in result.stderr


@pytest.mark.parametrize("how", ["exact", "fast"])
def test_batches_of_workers_are_skipped_exactly_or_fast(how: str, runs: Runs, script: Path, tmp_path: Path) -> None:
    script.write_text("""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

class Noisy(Dataset):
    def __len__(self):
        return 12
    def __getitem__(self, index):
        open("fetched", "a").write(f"{index}\\n")
        return index, torch.rand(())

torch.manual_seed(2)
model = nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
order, noise = [], []
for index, x in DataLoader(Noisy(), batch_size=2, shuffle=True, num_workers=1):
    optimizer.zero_grad()
    model(x[:, None]).sum().backward()
    optimizer.step()
    order.append(index)
    noise.append(x)
torch.save({"order": order[-2:], "noise": noise[-2:]}, "final.pt")
""")
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    whole.mkdir()
    interrupted.mkdir()
    settings = {"SUCROSE_LOADER_SKIP": how}
    assert runs.run(script, whole, settings=settings).returncode == 0
    assert runs.run(script, interrupted, "step 4", settings=settings).returncode == TERMINATED
    (interrupted / "fetched").unlink()
    result = runs.run(script, interrupted, settings=settings)
    assert result.returncode == 0, result.stderr
    expected, found = final_state(whole), final_state(interrupted)
    assert is_equal(found["order"], expected["order"])
    assert is_equal(found["noise"], expected["noise"]) == (how == "exact")


def test_a_wrong_way_of_skipping_is_an_error_that_says_what_is_allowed(runs: Runs, tmp_path: Path) -> None:
    settings = {"SUCROSE_LOADER_SKIP": "quick"}
    result = runs.run(SCRIPTS / "workers.py", tmp_path, settings=settings)
    assert result.returncode == 1
    assert "SUCROSE_LOADER_SKIP='quick': expected one of exact, fast" in result.stderr


def test_a_script_that_is_given_more_to_do_trains_on(runs: Runs, script: Path, tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "classifier.py", script)
    text = script.read_text()
    script.write_text(text.replace("range(3)", "range(2)"))
    assert runs.run(script, tmp_path).returncode == 0
    script.write_text(text)
    result = runs.run(script, tmp_path)
    assert result.returncode == 0, result.stderr
    whole = tmp_path / "whole"
    whole.mkdir()
    assert runs.run(SCRIPTS / "classifier.py", whole).returncode == 0
    assert is_equal(final_state(tmp_path), final_state(whole))

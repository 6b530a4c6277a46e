"""Any sequence of changes, takes, collections and flattenings: every snapshot restores bit for bit at every moment."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from bitwise import assert_same
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sucrose import Catalog, StateDict
from sucrose.catalog.generation import Generation

ROWS, WIDTH = 40, 70_000  # 280 KB a row: three pieces of 14 rows


class IncrementalMachine(RuleBasedStateMachine):
    """A catalog and the states that its generations must have."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.catalog = Catalog(Path(self.folder.name) / "run")
        self.states: dict[str, dict[str, torch.Tensor]] = {}
        self.step = 0

    @initialize()
    def begin(self) -> None:
        self.state = {"rows": torch.zeros(ROWS, WIDTH, dtype=torch.int32), "small": torch.zeros(3)}

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(row=st.integers(0, ROWS - 1))
    def change_a_row(self, row: int) -> None:
        self.state["rows"][row] += 1

    @rule(name=st.sampled_from(["small", "b", "c"]), shape=st.sampled_from([(3,), (2, 2), ()]))
    def set_a_tensor(self, name: str, shape: tuple[int, ...]) -> None:
        self.state[name] = torch.full(shape, float(self.step))

    @rule(name=st.sampled_from(["b", "c"]))
    def tie(self, name: str) -> None:
        self.state[name] = self.state["small"]

    @rule(data=st.data(), compressed=st.booleans(), in_background=st.booleans())
    def save(self, data: st.DataObject, compressed: bool, in_background: bool) -> None:
        bases = [None, "newest", *self.catalog.steps()]
        base = data.draw(st.sampled_from(bases))
        catalog = Catalog(self.catalog.root, compression="zstd:1" if compressed else "none")
        self.step += 1
        app_state = {"state": StateDict(self.state)}
        copies = {key: value.clone() for key, value in self.state.items()}
        if in_background:
            pending = catalog.async_save(self.step, app_state, base=base)
            self.state["rows"] += 0
            generation = pending.wait()
        else:
            generation = catalog.save(self.step, app_state, base=base)
        self.states[generation.id] = copies

    @rule(keep_last=st.integers(1, 3))
    def collect(self, keep_last: int) -> None:
        report = Catalog(self.catalog.root, keep_last=keep_last).collect()
        assert report.blocked is None
        for generation in report.removed:
            del self.states[generation.id]

    @rule(data=st.data())
    def flatten(self, data: st.DataObject) -> None:
        generations = self.catalog.generations()
        if generations:
            one = data.draw(st.sampled_from(generations))
            try:
                one.snapshot().flatten()
            except FileExistsError:
                assert any(one.id in other.bases for other in generations)
            else:
                assert one.snapshot().bases == ()

    @invariant()
    def every_generation_is_what_was_saved(self) -> None:
        generations = self.catalog.generations()
        assert {generation.id for generation in generations} == set(self.states)
        for generation in generations:
            self.check(generation)

    def check(self, generation: Generation) -> None:
        snapshot = generation.snapshot()
        assert_same(snapshot.get_state_dict_for_key("state"), self.states[generation.id])
        listed = {Path(base).name for base in snapshot.bases}
        assert listed == set(generation.bases)
        assert listed <= set(self.states)


IncrementalMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
test_every_generation_restores_at_every_moment = IncrementalMachine.TestCase

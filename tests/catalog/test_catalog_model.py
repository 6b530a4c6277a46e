"""A catalog beside a model of it: a dict of what was saved, and the rules as sentences."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sucrose import Catalog, Generation, PendingGeneration, Retention, StateDict
from sucrose.catalog.background import COLLECTOR

pytestmark = pytest.mark.any_backend

PATIENCE_S = 60.0


def state(value: int = 0) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((50,), float(value)))}


class CatalogMachine(RuleBasedStateMachine):
    """`saved` has the value of every generation that must be there, in the order in which they became the newest."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp()
        self.saved: dict[str, int] = {}
        self.generations: dict[str, Generation] = {}
        self.pinned: set[str] = set()
        self.pending: list[tuple[PendingGeneration, int, bool]] = []
        self.broken: set[str] = set()
        self.value = 0
        self.crashes = 0

    @initialize(keep_last=st.integers(1, 3), keep_every=st.none() | st.integers(2, 4))
    def open(self, keep_last: int, keep_every: int | None) -> None:
        # Saves keep all, so that what is there is known; `collect` applies the rules.
        self.catalog = Catalog(self.root)
        self.keeping = Catalog(self.root, keep_last=keep_last, keep_every=keep_every)
        self.retention = Retention(keep_last=keep_last, keep_every=keep_every)

    def teardown(self) -> None:
        self.wait_for_all()
        shutil.rmtree(self.root)

    def wait_for_all(self) -> None:
        for pending, value, pinned in self.pending:
            self.note(pending.wait(PATIENCE_S), value, pinned=pinned)
        self.pending.clear()
        assert COLLECTOR.wait_idle(PATIENCE_S)  # it would take away what rules put there for it

    def note(self, generation: Generation, value: int, *, pinned: bool) -> None:
        self.saved[generation.id] = value
        self.generations[generation.id] = generation
        if pinned:
            self.pinned.add(generation.id)

    @rule(step=st.integers(0, 12), pinned=st.booleans())
    def save(self, step: int, pinned: bool) -> None:
        self.value += 1
        self.wait_for_all()  # a save waits for those before it
        self.note(self.catalog.save(step, state(self.value), pinned=pinned, durable=False), self.value, pinned=pinned)

    @rule(step=st.integers(0, 12), pinned=st.booleans())
    def async_save(self, step: int, pinned: bool) -> None:
        self.value += 1
        given = state(self.value)
        self.pending.append((self.catalog.async_save(step, given, pinned=pinned, durable=False), self.value, pinned))
        given["state"]["tensor"].fill_(-1)

    @rule(step=st.integers(0, 12))
    def crash_while_saving(self, step: int) -> None:
        self.wait_for_all()
        self.crashes += 1
        half = Path(self.root, f".step_{step}-0123abcd.tmp-{self.crashes:032x}", "data")
        half.mkdir(parents=True)
        half.joinpath("0_0.safetensors").write_bytes(b"half")

    @precondition(lambda self: self.saved)
    @rule(chosen=st.integers(0, 100))
    def crash_while_removing(self, chosen: int) -> None:
        """Of a generation that was moved to the trash only a part was removed."""
        self.wait_for_all()
        *older, _ = self.in_order()
        if not older:
            return
        name = older[chosen % len(older)].id
        trash = Path(self.root, ".trash")
        trash.mkdir(exist_ok=True)
        os.rename(self.generations[name].path, trash / name)
        (trash / name / ".generation").unlink()
        self.forget(name)

    @precondition(lambda self: self.saved)
    @rule(chosen=st.integers(0, 100))
    def change_a_pin(self, chosen: int) -> None:
        self.wait_for_all()
        step = self.in_order()[chosen % len(self.saved)].step
        of_step = [generation.id for generation in self.in_order() if generation.step == step]
        if self.pinned & set(of_step):
            self.catalog.unpin(step)
            self.pinned -= set(of_step)
        else:
            self.catalog.pin(step)
            self.pinned.add(of_step[-1])

    @precondition(lambda self: len(self.saved) > 1)
    @rule(in_data=st.booleans())
    def damage_the_newest(self, in_data: bool) -> None:
        self.wait_for_all()
        newest = self.in_order()[-1]
        path = Path(newest.path, "data/0_0.safetensors" if in_data else ".generation")
        data = bytearray(path.read_bytes())
        data[-2] ^= 1
        path.write_bytes(data)
        self.broken.add(newest.id)
        self.forget(newest.id)
        self.restore_latest()

    @rule()
    def restore_latest(self) -> None:
        self.wait_for_all()
        found = state()
        generation = self.catalog.restore_latest(found)
        if not self.saved:
            assert generation is None
            return
        assert generation is not None
        assert generation.id == self.in_order()[-1].id
        assert found["state"]["value"] == self.saved[generation.id]
        assert found["state"]["tensor"].eq(self.saved[generation.id]).all()

    @rule()
    def collect(self) -> None:
        self.wait_for_all()
        in_order = self.in_order()
        kept = {g.id for g in in_order[-(self.retention.keep_last or 1) :]} | (self.pinned & set(self.saved))
        if self.retention.keep_every:
            kept |= {g.id for g in in_order if g.step % self.retention.keep_every == 0}
        report = self.keeping.collect()
        assert {generation.id for generation in report.removed} == set(self.saved) - kept
        for generation in report.removed:
            self.forget(generation.id)
        trash = Path(self.root, ".trash")
        assert not trash.exists() or not list(trash.iterdir())
        assert not [name for name in os.listdir(self.root) if ".tmp-" in name]

    @invariant()
    def what_is_listed_is_what_was_saved(self) -> None:
        if self.pending:
            return
        listed = self.catalog.generations()
        assert [generation.id for generation in listed] == [generation.id for generation in self.in_order()]
        assert {generation.id for generation in listed if generation.pinned} == self.pinned
        assert self.catalog.steps() == sorted({generation.step for generation in listed})
        assert {quarantined.name for quarantined in self.catalog.quarantined()} == self.broken

    def in_order(self) -> list[Generation]:
        """By the rule in words: a lower step than the newest begins anew, else the step decides, then the commit."""
        timelines: list[list[Generation]] = [[]]
        for generation in self.generations.values():
            while generation.timeline >= len(timelines):
                timelines.append([])
            timelines[generation.timeline].append(generation)
        return [
            generation
            for timeline in timelines
            for generation in sorted(timeline, key=lambda generation: generation.step)  # stable: commits are in order
        ]

    def forget(self, name: str) -> None:
        del self.saved[name], self.generations[name]
        self.pinned.discard(name)


CatalogMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestCatalogModel = CatalogMachine.TestCase

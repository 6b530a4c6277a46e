"""States of several ranks in an object store: one generation, of which each rank finds its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranks import run_ranks, values_of

from sucrose import Catalog

if TYPE_CHECKING:
    from pathlib import Path


def save_and_find(rank: int, world_size: int, root: str) -> dict[str, Any]:
    from sucrose.ranks import Ranks
    from sucrose.state.object_store import ObjectStoreCheckpoints
    from sucrose.state.values import freeze, thaw

    ranks = Ranks.of()
    checkpoints = ObjectStoreCheckpoints(root, keep_last=None)
    states = {"own": freeze({"rank": rank}, "own"), "shared": freeze("the same", "shared")}
    checkpoints.save_together(states, ranks, ["shared"])
    found = checkpoints.newest_name() if rank == 0 else None
    with ranks.begin("telling the name") as exchange:
        name = exchange.broadcast("name", None if found is None else found[0].encode())
    saved = checkpoints.named(name.decode()) if found is None else found[1]
    return {key: thaw(saved.read(key), key=key, source=root, distrust=saved.distrust) for key in saved.keys()}  # noqa: SIM118


def test_each_rank_finds_its_own_states_in_the_generation_of_all(tmp_path: Path) -> None:
    root = f"local://{tmp_path}/bucket/states"  # to this package it is a store like any other
    found = values_of(run_ranks(2, save_and_find, tmp_path, arguments=(root,)))
    assert found == [{"own": {"rank": rank}, "shared": "the same"} for rank in (0, 1)]
    [generation] = Catalog(root).generations()
    assert generation.snapshot().metadata.world_size == 2

"""Programs of several ranks that end without closing their scenario: the newest epoch is written, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranks import run_ranks, values_of

import sucrose

if TYPE_CHECKING:
    from pathlib import Path


def end_without_closing(rank: int, world_size: int, folder: str, name: str, fails: bool) -> int:
    from unittest.mock import patch

    import torch

    import sucrose

    if rank == 0:  # as if it had looked into a workspace before the group was set up
        with patch("torch.distributed.is_initialized", return_value=False):
            sucrose.Scenario(folder, f"{name}/looked at").close()
    ssc = sucrose.scenario(folder, name)
    value = torch.nn.Linear(2, 2)
    for number in (1, 2, 3):
        value.weight.data.fill_(10 * rank + number)
        ssc.save_state_dict(5, value=value)
    if fails and rank == 1:
        wait_for_point(0, "the end")  # noqa: F821  # run_ranks has it
        ssc.save_state_dict(5, value=value)
    elif fails:
        ssc.save_before_end(at_boundary=False)  # as SIGTERM has it, before the exit does the same
    return ssc.epoch


def test_at_the_exit_all_ranks_write_the_newest_epoch_though_the_group_was_destroyed(tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "config.yaml").write_text("base: {}\nother: {}\nworkspace: {ckpts_extension: .snapshot}\n")
    assert values_of(run_ranks(2, end_without_closing, tmp_path, arguments=[str(folder), "base", False])) == [3, 3]
    snapshot = sucrose.Snapshot(folder / "ckpts" / "base" / "base_e3.snapshot")
    assert snapshot.verify()
    for rank in (0, 1):
        assert snapshot.read_object(f"{rank}/value/weight").unique().tolist() == [10 * rank + 3]


def test_where_a_rank_is_elsewhere_at_the_exit_nothing_is_written_and_the_log_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "config.yaml").write_text("base: {}\nother: {}\nworkspace: {ckpts_extension: .snapshot}\n")
    first, _ = run_ranks(
        2,
        end_without_closing,
        tmp_path,
        arguments=[str(folder), "other", True],
        store="torchrun",
        environment={"SUCROSE_RANK_TIMEOUT_S": "2", "SUCROSE_LAST_SAVE_WAIT_S": "1"},
    )
    assert (first.status, first.value) == (0, 3)
    assert first.stderr.count("epoch 3 is not saved") == 1  # and so waited for once
    assert sucrose.find_latest_epoch(folder / "ckpts" / "other", "other", ext=".snapshot") == 0

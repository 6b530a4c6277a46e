"""The names that programs rely on."""

from __future__ import annotations

import importlib

import pytest

import sucrose

TORCHSNAPSHOT = {
    "torchsnapshot": ["PendingSnapshot", "RNGState", "Snapshot", "StateDict", "Stateful"],
    "torchsnapshot.snapshot": ["PendingSnapshot", "Snapshot"],
    "torchsnapshot.state_dict": ["StateDict"],
    "torchsnapshot.rng_state": ["RNGState"],
    "torchsnapshot.stateful": ["AppState", "Stateful"],
    "torchsnapshot.manifest": ["Entry", "PrimitiveEntry", "SnapshotMetadata", "TensorEntry"],
    "torchsnapshot.manifest_utils": ["is_fully_replicated_entry"],
    "torchsnapshot.knobs": [
        "override_is_batching_disabled",
        "override_max_chunk_size_bytes",
        "override_max_per_rank_io_concurrency",
        "override_max_shard_size_bytes",
        "override_slab_size_threshold_bytes",
    ],
}


def test_the_package_has_exactly_its_documented_names() -> None:
    assert sucrose.__all__ == [
        "BaseStateManager",
        "Catalog",
        "CollectReport",
        "Compression",
        "DistributedDataParallelAdapter",
        "FSDPOptimizerAdapter",
        "Generation",
        "PendingGeneration",
        "PendingSnapshot",
        "PicklableDict",
        "PicklableWrapper",
        "RNGState",
        "RestoreReport",
        "Retention",
        "Scenario",
        "Snapshot",
        "StateClosureManager",
        "StateCopyManager",
        "StateDict",
        "StateManager",
        "StateManagerGroup",
        "StateRefManager",
        "StateSymbolicManager",
        "Stateful",
        "VerifyReport",
        "auto_get_scenario",
        "build_info",
        "epoch_range",
        "find_last_epoch",
        "find_latest_epoch",
        "get_current_scenario",
        "get_current_step",
        "load",
        "load_state_dict",
        "log",
        "logger",
        "partial",
        "post",
        "resume_uploads",
        "save",
        "save_state_dict",
        "scenario",
        "should_stop",
        "start_project",
        "start_pytorch_tensorboard",
        "step",
        "track",
    ]
    for name in sucrose.__all__:
        assert getattr(sucrose, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = sucrose.no_such_name


@pytest.mark.parametrize("module", TORCHSNAPSHOT)
def test_programs_written_for_torchsnapshot_find_their_names(module: str) -> None:
    imported = importlib.import_module(module)
    for name in TORCHSNAPSHOT[module]:
        assert hasattr(imported, name), f"{module}.{name}"


def test_both_import_names_mean_the_same_classes() -> None:
    import torchsnapshot

    assert torchsnapshot.PendingSnapshot is sucrose.PendingSnapshot
    assert torchsnapshot.Snapshot is sucrose.Snapshot
    assert torchsnapshot.StateDict is sucrose.StateDict


def test_build_info_tells_what_a_bug_report_needs() -> None:
    info = sucrose.build_info()
    assert info["version"] == sucrose.__version__
    assert info["compiler"].split()[0] in ("GNU", "Clang")
    assert info["io_uring_usable"] == "yes" or info["io_uring_usable"].startswith("no: ")
    for name in ("flags", "zstd", "xxhash", "digest_kernel", "io_uring_built", "cuda_driver"):
        assert info[name]

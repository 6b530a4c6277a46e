"""torchsnapshot's knobs, as far as they mean something here: each sets `sucrose.options`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from sucrose.options import override_options

__all__ = [
    "override_is_batching_disabled",
    "override_max_chunk_size_bytes",
    "override_max_per_rank_io_concurrency",
    "override_max_shard_size_bytes",
    "override_slab_size_threshold_bytes",
]


def override_max_chunk_size_bytes(max_chunk_size_bytes: int) -> AbstractContextManager[None]:
    """Lists tensors larger than this as several chunks; they are stored in one piece anyway."""
    return override_options(max_chunk_nbytes=max_chunk_size_bytes)


def override_max_shard_size_bytes(max_shard_size_bytes: int) -> AbstractContextManager[None]:
    """Accepted for compatibility: a shard of any size is written and read in 4 MiB pieces."""
    del max_shard_size_bytes
    return nullcontext()


def override_slab_size_threshold_bytes(
    slab_size_threshold_bytes: int,
) -> AbstractContextManager[None]:
    """Begins another data file past this size. Tensors always share files, whatever their size."""
    return override_options(max_file_nbytes=slab_size_threshold_bytes)


def override_max_per_rank_io_concurrency(
    max_per_rank_io_concurrency: int,
) -> AbstractContextManager[None]:
    """Threads of the threaded I/O backend; effective before the engine is first used."""
    return override_options(io_depth=max_per_rank_io_concurrency)


def override_is_batching_disabled(disabled: bool) -> AbstractContextManager[None]:
    """Gives every tensor a file of its own."""
    return override_options(max_file_nbytes=0) if disabled else nullcontext()

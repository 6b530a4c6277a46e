"""Makes the golden samples of the original torchsnapshot on several ranks: run once, never for an existing one.

    python tests/golden/make_golden_ranks.py

Each sample is a folder with a snapshot and with `expected.pt`: the full tensors, and what each rank had of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ORIGINAL = HERE.parent.parent / ".peers" / "torchsnapshot"
WORLD_SIZES = (2, 4)


def sample_of(world_size: int) -> Path:
    """Where the sample is."""
    return HERE / "several_ranks" / f"torchsnapshot_0.1.0_on_{world_size}"


def full_tensors() -> dict[str, Any]:
    """What is spread over the ranks."""
    import torch

    return {
        "rows": torch.arange(35, dtype=torch.float32).view(7, 5),
        "columns": torch.arange(48, dtype=torch.bfloat16).view(6, 8) / 3,
        "copies": torch.arange(12, dtype=torch.int64).view(3, 4) * -1,
        "blocks": torch.arange(64, dtype=torch.float64).view(8, 8) / 7,
        "table": torch.arange(40, dtype=torch.float32).view(10, 4) / 11,
    }


def own_values(rank: int) -> dict[str, Any]:
    """What each rank has of its own."""
    import torch

    return {"tensor": torch.full((2, 3), rank + 0.5), "number": rank * 10, "object": (rank, "a rank"), "list": [rank]}


def equal_values() -> dict[str, Any]:
    """What is equal on all ranks, and saved as such."""
    import torch

    return {"weight": torch.arange(6.0).view(2, 3), "name": "equal", "step": 7, "inner": {"bias": torch.ones(4)}}


def spread_values(world_size: int) -> dict[str, Any]:
    """This rank's parts of `full_tensors`."""
    import torch.distributed as dist
    from torch.distributed._shard import sharded_tensor
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    full = full_tensors()
    line = init_device_mesh("cpu", (world_size,))
    square = init_device_mesh("cpu", (2, world_size // 2))
    rank = dist.get_rank()
    bounds = [10 * index // world_size for index in range(world_size + 1)]
    begin, end = bounds[rank], bounds[rank + 1]
    shard = sharded_tensor.Shard.from_tensor_and_offsets(full["table"][begin:end].clone(), [begin, 0], rank)
    return {
        "rows": distribute_tensor(full["rows"], line, [Shard(0)]),
        "columns": distribute_tensor(full["columns"], line, [Shard(1)]),
        "copies": distribute_tensor(full["copies"], square, [Replicate(), Shard(0)]),
        "blocks": distribute_tensor(full["blocks"], square, [Shard(0), Shard(1)]),
        "table": sharded_tensor.init_from_local_shards([shard], 10, 4),
    }


def take(rank: int, world_size: int, folder: Path) -> None:
    """Writes the snapshot, as one of its ranks."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    from torchsnapshot import Snapshot, StateDict

    torch.manual_seed(rank)
    state: dict[str, Any] = {"own": StateDict(**own_values(rank)), "equal": StateDict(**equal_values())}
    for name, value in spread_values(world_size).items():
        try:
            with tempfile.TemporaryDirectory() as trial:
                shared = [trial]
                dist.broadcast_object_list(shared)
                Snapshot.take(f"{shared[0]}/trial", {name: StateDict(value=value)})
                dist.barrier()
        except Exception as error:  # noqa: BLE001 - of a torch that the original does not know
            if rank == 0:
                sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
        else:
            state[name] = StateDict(value=value)
    Snapshot.take(str(folder / "snapshot"), state, replicated=["equal/**"])
    if rank == 0:
        names = [name for name in full_tensors() if name in state]
        torch.save(
            {
                "spread": {name: full_tensors()[name] for name in names},
                "own": [own_values(other) for other in range(world_size)],
                "equal": equal_values(),
            },
            folder / "expected.pt",
        )
    dist.destroy_process_group()


def main() -> None:
    for world_size in WORLD_SIZES:
        folder = sample_of(world_size)
        if folder.exists():
            continue
        folder.mkdir(parents=True)
        ranks = [
            subprocess.Popen([sys.executable, __file__, str(rank), str(world_size), str(folder)])
            for rank in range(world_size)
        ]
        assert not any([rank.wait() for rank in ranks]), world_size  # noqa: C419 - wait for all of them
        (folder / "store").unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        warnings.simplefilter("ignore")
        # Only the standard finders: those of editable installations come first and know our torchsnapshot.
        sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
        sys.path.insert(0, str(ORIGINAL))
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        take(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

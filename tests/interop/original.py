"""The original torchsnapshot at work: run as a program, with its folder in SUCROSE_ORIGINAL.

python original.py take FOLDER             writes snapshots of all kinds into FOLDER
python original.py restore SNAPSHOT FILE   restores SNAPSHOT and torch.saves what it got into FILE
python original.py read SNAPSHOT PATH… FILE    torch.saves single values into FILE
python original.py restore_ranks SNAPSHOT WORLD_SIZE FILE    restores on several ranks, each a fork, and torch.saves a
                                                             list of what each of them got
python original.py refuse SNAPSHOT FILE    likewise the names of the errors that it raises
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
# Only the standard finders: those of editable installations come first and know our torchsnapshot.
sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, os.environ["SUCROSE_ORIGINAL"])

import states  # noqa: E402 - after the path is set
import torch  # noqa: E402

import torchsnapshot  # noqa: E402
from torchsnapshot import RNGState, Snapshot, StateDict, knobs  # noqa: E402

assert str(torchsnapshot.__file__).startswith(os.environ["SUCROSE_ORIGINAL"]), torchsnapshot.__file__


def take(folder: Path) -> None:
    app_state = states.make_app_state(0, StateDict, RNGState, empty=False)
    app_state["quantized"] = StateDict(q=states.quantized_tensors())
    expected = states.contents(app_state)
    snapshots = {"batched": {}, "separate": {"TORCHSNAPSHOT_DISABLE_BATCHING": "1"}, "chunked": {}, "slabs": {}}
    for name, environment in snapshots.items():
        os.environ.update(environment)
        max_chunk_nbytes = 100 if name == "chunked" else 1 << 30
        max_slab_nbytes = 500 if name == "slabs" else 1 << 30
        chunks = knobs.override_max_chunk_size_bytes(max_chunk_nbytes)
        with chunks, knobs.override_slab_size_threshold_bytes(max_slab_nbytes):
            torch.manual_seed(5)
            Snapshot.take(str(folder / name), app_state)
        for variable in environment:
            del os.environ[variable]
    torch.save({"contents": expected, "drawn": torch.rand(3)}, folder / "expected.pt")


def restore(snapshot_path: Path, file: Path) -> None:
    app_state = states.make_app_state(1, StateDict, RNGState)
    snapshot = Snapshot(str(snapshot_path))
    snapshot.restore(app_state)
    drawn = torch.rand(3)
    objects = {
        path: snapshot.read_object(path)
        for path in ("0/model/head.weight", "0/layouts/large", "0/objects/pair", "0/primitives/numbers/1")
    }
    torch.save({"contents": states.contents(app_state), "drawn": drawn, "objects": objects}, file)


def read(snapshot_path: Path, *paths_and_file: Path) -> None:
    *paths, file = paths_and_file
    snapshot = Snapshot(str(snapshot_path))
    torch.save({str(path): snapshot.read_object(str(path)) for path in paths}, file)


def restore_ranks(snapshot_path: Path, world_size: Path, file: Path) -> None:
    files = [file.with_suffix(f".{rank}") for rank in range(int(str(world_size)))]
    ranks = []
    for rank, of_rank in enumerate(files):
        ranks.append(os.fork())
        if ranks[-1] == 0:
            _restore_as_rank(snapshot_path, rank, len(files), of_rank)
            os._exit(0)
    statuses = [os.waitpid(rank, 0)[1] for rank in ranks]
    assert not any(statuses), statuses
    torch.save([torch.load(of_rank, weights_only=False) for of_rank in files], file)


def _restore_as_rank(snapshot_path: Path, rank: int, world_size: int, file: Path) -> None:
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = file.with_name("store")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    app_state = states.make_rank_state(rank, world_size, StateDict, is_zero=True)
    Snapshot(str(snapshot_path)).restore(app_state)
    torch.save(states.rank_contents(app_state), file)
    dist.destroy_process_group()


def refuse(snapshot_path: Path, file: Path) -> None:
    errors = {}
    snapshot = Snapshot(str(snapshot_path))
    for path in snapshot.get_manifest():
        if path.count("/") == 2:
            try:
                snapshot.read_object(path)
            except Exception as error:  # noqa: BLE001 - whichever it is
                errors[path] = type(error).__name__
            else:
                errors[path] = None
    torch.save(errors, file)


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    {"take": take, "restore": restore, "read": read, "restore_ranks": restore_ranks, "refuse": refuse}[command](
        *map(Path, paths)
    )

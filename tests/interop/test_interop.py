"""Snapshots pass between this package and the original torchsnapshot, bit for bit both ways.

The original shares our import name, so it lies in a folder of its own and runs in a process of its
own. `make test` puts it there; by hand: ``python -m benchmarks.peers torchsnapshot``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from bitwise import assert_same, raw_bytes
from ranks import run_ranks, values_of
from safetensors import safe_open

from interop import states
from sucrose import Catalog, RNGState, Snapshot, StateDict
from sucrose.errors import UnsafeObjectError
from torchsnapshot import knobs

pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per_tensor"),
]

ROOT = Path(__file__).resolve().parents[2]
KEYS = [key for key in states.make_app_state(0, StateDict, RNGState) if key != "rng"]
Original = Callable[..., Any]


@pytest.fixture(scope="session")
def original() -> Original:
    """A function that has the original carry out a command of interop/original.py."""
    folder = Path(os.environ.get("SUCROSE_PEERS", ROOT / ".peers")) / "torchsnapshot"
    if not (folder / "torchsnapshot").is_dir():
        hint = f"{folder} is missing: run 'python -m benchmarks.peers torchsnapshot'"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(hint)
        pytest.skip(hint)

    def run(*arguments: object) -> Any:
        program = [sys.executable, str(ROOT / "tests" / "interop" / "original.py"), *map(str, arguments)]
        environment = {**os.environ, "SUCROSE_ORIGINAL": str(folder)}
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return torch.load(arguments[-1], weights_only=False) if str(arguments[-1]).endswith(".pt") else None

    return run


# --- what we write, the original reads --------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=["plain", "chunked", "many files", "generation", "with a base"])
def ours(
    request: pytest.FixtureRequest, original: Original, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A snapshot of ours: what went in, and what the original got out."""
    folder = tmp_path_factory.mktemp("ours")
    app_state = states.make_app_state(0, StateDict, RNGState)
    expected = states.contents(app_state)
    torch.manual_seed(5)
    chunks = knobs.override_max_chunk_size_bytes(100 if request.param == "chunked" else 0)
    with chunks, knobs.override_slab_size_threshold_bytes(300 if request.param == "many files" else 1 << 30):
        if request.param == "generation":
            path = Catalog(folder / "catalog").save(7, app_state, metrics={"loss": 0.5}).path
        elif request.param == "with a base":
            Snapshot.take(folder / "base", {**app_state, "model": torch.nn.Linear(3, 3)}, fingerprints=True)
            torch.manual_seed(5)
            path = Snapshot.take(folder / "s", app_state, base=folder / "base").path
            assert Snapshot(path).bases
        else:
            path = Snapshot.take(folder / "s", app_state).path
    drawn = torch.rand(3)
    return {"expected": expected, "drawn": drawn, "got": original("restore", path, folder / "got.pt")}


@pytest.mark.parametrize("key", KEYS)
def test_the_original_restores_what_we_wrote(ours: dict[str, Any], key: str) -> None:
    assert_same(ours["got"]["contents"][key], ours["expected"][key])


def test_the_original_continues_our_generator(ours: dict[str, Any]) -> None:
    assert_same(ours["got"]["drawn"], ours["drawn"])


def test_the_original_reads_single_values_of_ours(ours: dict[str, Any]) -> None:
    expected = ours["expected"]
    got = ours["got"]["objects"]
    assert_same(got["0/model/head.weight"], expected["model"]["head.weight"])
    assert_same(got["0/layouts/large"], expected["layouts"]["large"])
    assert_same(got["0/objects/pair"], expected["objects"]["pair"])
    assert_same(got["0/primitives/numbers/1"], expected["primitives"]["numbers"][1])


def test_the_original_reads_tensors_of_which_pieces_lie_in_a_base(original: Original, tmp_path: Path) -> None:
    state = StateDict(large=torch.randn(300, 16384), small=torch.randn(5))
    Snapshot.take(tmp_path / "base", {"state": state}, fingerprints=True)
    state["large"][100] += 1
    Snapshot.take(tmp_path / "s", {"state": state}, base=tmp_path / "base")
    got = original("read", tmp_path / "s", "0/state/large", "0/state/small", tmp_path / "got.pt")
    assert_same(got, {"0/state/large": state["large"], "0/state/small": state["small"]})


def take_as_rank(rank: int, world_size: int, folder: str, tests: str) -> Any:
    import sys

    sys.path.insert(0, tests)
    from interop import states
    from sucrose import Snapshot, StateDict

    app_state = states.make_rank_state(rank, world_size, StateDict)
    Snapshot.take(folder, app_state, replicated=["equal/**"])
    return states.rank_contents(app_state)


def test_the_original_restores_on_two_ranks_what_two_of_ours_wrote(original: Original, tmp_path: Path) -> None:
    tests = str(ROOT / "tests")
    expected = values_of(run_ranks(2, take_as_rank, tmp_path, arguments=[str(tmp_path / "s"), tests]))
    got = original("restore_ranks", tmp_path / "s", 2, tmp_path / "got.pt")
    assert len(got) == 2
    assert_same(got[0], expected[0])
    assert_same(got[1], expected[1])
    assert not torch.equal(got[0]["spread"]["rows"], got[1]["spread"]["rows"])


def test_what_the_original_wrote_is_a_base(original: Original, tmp_path: Path) -> None:
    original("take", tmp_path / "theirs")
    for name in ("batched", "separate", "chunked"):
        base = Snapshot(tmp_path / "theirs" / name)
        state = StateDict(base.get_state_dict_for_key("layouts", allow_pickle=True))
        ours = Snapshot.take(tmp_path / name, {"layouts": state}, base=base)
        assert ours.bases == (str(tmp_path / "theirs" / name),)
        assert ours.verify()
        assert_same(ours.get_state_dict_for_key("layouts", allow_pickle=True), dict(state))


def test_the_original_refuses_dtypes_that_it_does_not_know(original: Original, tmp_path: Path) -> None:
    unknown = {
        str(dtype): torch.zeros(4, dtype=torch.uint8).view(dtype)
        for dtype in (torch.float8_e4m3fn, torch.uint16, torch.uint32, torch.float4_e2m1fn_x2)
    }
    Snapshot.take(tmp_path / "s", {"state": StateDict(known=torch.ones(2), **unknown)})
    errors = original("refuse", tmp_path / "s", tmp_path / "errors.pt")
    assert errors.pop("0/state/known") is None
    assert set(errors) == {f"0/state/{name}" for name in unknown}
    assert all(errors.values()), "it read something, and not as what it is"


# --- what the original writes, we read --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def theirs(original: Original, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    original("take", folder)
    for name in ("batched", "chunked"):  # as its older releases wrote the metadata
        shutil.copytree(folder / name, folder / f"{name}, YAML")
        metadata = folder / f"{name}, YAML" / ".snapshot_metadata"
        metadata.write_text(yaml.dump(json.loads(metadata.read_text()), sort_keys=False))
    return folder


FLAVOURS = ["batched", "separate", "chunked", "slabs", "batched, YAML", "chunked, YAML"]


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def expected_of(theirs: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(theirs / "expected.pt", weights_only=False)  # type: ignore[no-any-return]


def test_we_restore_what_the_original_wrote(each_engine: str, theirs: Path, flavour: str) -> None:
    app_state = states.make_app_state(1, StateDict, RNGState, empty=False)
    Snapshot(theirs / flavour).restore(app_state)
    drawn = torch.rand(3)
    expected = expected_of(theirs)
    for key in KEYS:
        assert_same(states.contents(app_state)[key], expected["contents"][key], key)
    assert_same(drawn, expected["drawn"])


def test_we_read_values_of_the_original_without_a_target(theirs: Path, flavour: str) -> None:
    snapshot = Snapshot(theirs / flavour)
    expected = expected_of(theirs)["contents"]
    for key in [*KEYS, "quantized"]:
        assert_same(snapshot.get_state_dict_for_key(key), expected[key], key)
    large = expected["layouts"]["large"]
    assert_same(snapshot.read_object("0/layouts/large"), large)
    target = torch.zeros(33, 64).t()
    assert snapshot.read_object("0/layouts/large", obj_out=target, memory_budget_bytes=1) is target
    assert raw_bytes(target) == raw_bytes(large)


def test_a_value_missing_from_a_snapshot_of_the_original_is_named(theirs: Path) -> None:
    with pytest.raises(RuntimeError, match=r"0/model/head\.weight"):
        Snapshot(theirs / "batched").read_object("0/model/head.weigth")


def test_snapshots_of_the_original_have_no_digests_to_verify(theirs: Path) -> None:
    with pytest.raises(TypeError, match="no digests"):
        Snapshot(theirs / "batched").verify()


def test_pickles_of_the_original_are_not_run_unasked(original: Original, theirs: Path, tmp_path: Path) -> None:
    shutil.copytree(theirs / "separate", tmp_path / "s")
    snapshot = Snapshot(tmp_path / "s")
    entry = snapshot.get_manifest()["0/objects/pair"]
    marker = tmp_path / "ran"
    torch.save(_Runs(marker), tmp_path / "s" / entry.location)
    with pytest.raises(UnsafeObjectError):
        snapshot.read_object("0/objects/pair")
    assert not marker.exists()
    snapshot.read_object("0/objects/pair", allow_pickle=True)
    assert marker.exists()


class _Runs:
    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._marker,)


# --- other tools ------------------------------------------------------------------------------------------------------


def test_safetensors_opens_our_data_files(tmp_path: Path) -> None:
    app_state = states.make_app_state(0, StateDict, RNGState)
    with knobs.override_slab_size_threshold_bytes(2000):
        Snapshot.take(tmp_path / "s", app_state)
    found = {}
    for file in sorted((tmp_path / "s" / "data").iterdir()):
        with safe_open(file, framework="pt") as opened:
            found.update({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 - it is no dict
    contents = states.contents(app_state)
    assert_same(found["model/embedding.weight"], contents["model"]["embedding.weight"])
    assert_same(found["layouts/transposed"], contents["layouts"]["transposed"].contiguous())
    assert_same(found["containers/keys/a%2Fb"], contents["containers"]["keys"]["a/b"])
    for dtype in states.SHARED_DTYPES:
        saved = contents["dtypes"][str(dtype)]
        if dtype.is_complex:  # listed as bytes: safetensors has no name for it
            assert raw_bytes(found[f"dtypes/{dtype}"]) == raw_bytes(saved)
        else:
            assert_same(found[f"dtypes/{dtype}"], saved)

"""Compressed snapshots: the same state comes back, the files are what other tools decode, and damage is found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import zstandard
from bitwise import assert_same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sucrose import Catalog, Compression, RNGState, Snapshot, StateDict
from sucrose.errors import ConfigError, CorruptionError
from sucrose.options import override_options

CHUNK = 4 << 20
EVERY_WAY = [
    "zstd",
    "zstd:-20",
    "zstd:7",
    "auto",
    Compression(),
    Compression(level=3),
    Compression(level=1, filter="none"),
    Compression(adaptive=True, filter="none", level=1),
]
DTYPES = [
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.complex64,
    torch.int64,
    torch.int16,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
]


def weights(nbytes: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(nbytes // dtype.itemsize, generator=generator) / 50
    return values.to(dtype) if dtype.is_floating_point or dtype.is_complex else (values * 1000).to(dtype)


def every_dtype() -> StateDict:
    tensors: dict[str, Any] = {str(dtype): weights(300_001 * dtype.itemsize, dtype) for dtype in DTYPES}
    tensors["empty"] = torch.empty(0, 3)
    tensors["scalar"] = torch.tensor(3.5)
    tensors["strided"] = weights(1 << 20, torch.float32).view(512, -1).t()
    tensors["zeros"] = torch.zeros(2 * CHUNK // 4 + 1)
    tensors["tied"] = tensors["zeros"]
    tensors["pickled"] = {1, 2, 3}
    tensors["number"] = 7
    return StateDict(**tensors)


@pytest.mark.parametrize("way", EVERY_WAY, ids=[f"way{i}" for i in range(len(EVERY_WAY))])
def test_every_way_gives_every_dtype_back(way: Any, each_engine: str, tmp_path: Path) -> None:
    saved = every_dtype()
    snapshot = Snapshot.take(tmp_path / "s", {"state": saved}, compression=way)
    assert snapshot.verify()
    target = StateDict(**{k: torch.zeros_like(v) if isinstance(v, torch.Tensor) else None for k, v in saved.items()})
    Snapshot(tmp_path / "s").restore({"state": target}, allow_pickle=True)
    assert_same(dict(target), dict(saved))


@pytest.mark.parametrize(("writer", "reader"), [("native", "reference"), ("reference", "native")])
def test_each_engine_reads_what_the_other_compressed(writer: str, reader: str, tmp_path: Path) -> None:
    saved = every_dtype()
    for number, way in enumerate(EVERY_WAY):
        path = tmp_path / str(number)
        with override_options(engine=writer):
            Snapshot.take(path, {"state": saved}, compression=way)
        with override_options(engine=reader):
            assert Snapshot(path).verify()
            loaded = Snapshot(path).get_state_dict_for_key("state", allow_pickle=True)
        assert_same(loaded, dict(saved))


def test_weights_take_two_thirds_of_their_space(tmp_path: Path) -> None:
    saved = {"state": StateDict(w=weights(5 * CHUNK))}
    stats = Snapshot.take(tmp_path / "s", saved, compression=Compression()).stats
    assert stats is not None
    on_disk = sum(path.stat().st_size for path in (tmp_path / "s" / "data").iterdir())
    assert on_disk < 0.68 * saved["state"]["w"].nbytes
    assert on_disk <= stats.stored_nbytes < stats.nbytes


def test_a_file_without_groups_is_what_the_zstd_tool_decodes(tmp_path: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("the zstd tool is not installed")
    saved = {"state": StateDict(w=weights(2 * CHUNK + 12, torch.float32), zeros=torch.zeros(CHUNK))}
    Snapshot.take(tmp_path / "s", saved, compression="zstd")
    file = tmp_path / "s" / "data" / "0_0.safetensors.zst"
    decoded = subprocess.run(["zstd", "-dc", str(file)], check=True, capture_output=True).stdout
    tensors = safetensors.torch.load(decoded)
    assert torch.equal(tensors["state/w"], saved["state"]["w"])
    assert torch.equal(tensors["state/zeros"], saved["state"]["zeros"])


@pytest.mark.parametrize("way", ["zstd:1", Compression()], ids=["plain", "groups"])
def test_zstandard_decodes_the_file_and_the_index_tells_how_to_undo_groups(way: Any, tmp_path: Path) -> None:
    saved = {"state": StateDict(w=weights(2 * CHUNK + 6))}
    Snapshot.take(tmp_path / "s", saved, compression=way)
    record = json.loads((tmp_path / "s" / ".snapshot_index").read_bytes().partition(b"\n")[0])["files"]
    [(name, of_file)] = record.items()
    data = (tmp_path / "s" / name).read_bytes()
    assert len(data) == sum(of_file["stored"]["sizes"])
    decoded = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    groups = of_file["stored"].get("groups", "") or "0" * len(of_file["stored"]["sizes"])
    plain = b""
    for index, group in enumerate(map(int, groups)):
        chunk = decoded[index * CHUNK : (index + 1) * CHUNK]
        if group:
            items = len(chunk) // group
            merged = bytearray(chunk)
            for byte in range(group):
                merged[byte : items * group : group] = chunk[byte * items : (byte + 1) * items]
            chunk = bytes(merged)
        plain += chunk
    assert torch.equal(safetensors.torch.load(plain)["state/w"], saved["state"]["w"])


def test_one_small_tensor_is_read_without_the_rest(tmp_path: Path) -> None:
    saved = StateDict(**{f"w{i}": weights(CHUNK, seed=i) for i in range(8)})
    snapshot = Snapshot.take(tmp_path / "s", {"state": saved}, compression=Compression())
    [file] = (tmp_path / "s" / "data").iterdir()
    data = bytearray(file.read_bytes())
    data[-CHUNK // 2 :] = bytes(CHUNK // 2)  # damaged far behind what is asked for
    file.write_bytes(data)
    assert torch.equal(snapshot.read_object("0/state/w0"), saved["w0"])
    with pytest.raises(CorruptionError) as caught:
        snapshot.read_object("0/state/w7")
    assert caught.value.key == "0/state/w7"


@pytest.mark.parametrize("way", ["zstd:1", Compression()], ids=["plain", "groups"])
@pytest.mark.parametrize("where", [0, 1, 0.3, 0.6, -1])
def test_a_flipped_byte_is_found_and_its_tensor_named(way: Any, where: float, each_engine: str, tmp_path: Path) -> None:
    saved = {"state": StateDict(w=weights(2 * CHUNK))}
    snapshot = Snapshot.take(tmp_path / "s", saved, compression=way)
    [file] = (tmp_path / "s" / "data").iterdir()
    data = bytearray(file.read_bytes())
    at = int(where * len(data)) if isinstance(where, float) else where
    data[at] ^= 0x55
    file.write_bytes(data)
    report = snapshot.verify()
    header_only = not report and not report.problems[0].keys
    assert not report
    if not header_only:
        with pytest.raises(CorruptionError, match="state/w"):
            snapshot.read_object("0/state/w")


def test_a_chunk_that_cannot_be_decoded_is_told_of_in_words(each_engine: str, tmp_path: Path) -> None:
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(w=weights(2 * CHUNK))}, compression="zstd:1")
    [file] = (tmp_path / "s" / "data").iterdir()
    data = bytearray(file.read_bytes())
    data[:4] = bytes(4)  # it is no zstd frame any more
    file.write_bytes(data)
    with pytest.raises(CorruptionError, match=r"chunk 0 of '0/state/w' in .* at offset 0 cannot be decoded") as caught:
        snapshot.read_object("0/state/w")
    assert "!=" not in str(caught.value)
    assert re.search(r"\(digest [0-9a-f]{32} expected\)", str(caught.value))
    [problem] = snapshot.verify().problems
    assert problem.message.startswith(f"chunk 0 of data/{file.name} at offset 0 cannot be decoded: ")


def test_an_old_table_of_chunks_does_not_fit_new_data(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        Snapshot.take(tmp_path / name, {"state": StateDict(w=weights(2 * CHUNK, seed=seed))}, compression=Compression())
    [theirs] = (tmp_path / "b" / "data").iterdir()
    [ours] = (tmp_path / "a" / "data").iterdir()
    ours.write_bytes(theirs.read_bytes())
    assert not Snapshot(tmp_path / "a").verify()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(
        st.tuples(st.sampled_from(DTYPES), st.sampled_from([1, 3, 1000, CHUNK // 8 - 512, CHUNK // 8, CHUNK // 8 + 1])),
        min_size=1,
        max_size=4,
    ),
    way=st.sampled_from(EVERY_WAY),
    slots=st.sampled_from([1, 2, 32]),
)
def test_any_mixture_of_sizes_and_dtypes_comes_back(
    sizes: list[tuple[torch.dtype, int]], way: Any, slots: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = StateDict(
        **{f"t{i}": weights(count * dtype.itemsize, dtype, seed=i) for i, (dtype, count) in enumerate(sizes)}
    )
    path = tmp_path_factory.mktemp("mixture") / "s"
    with override_options(max_file_nbytes=3 << 20, ring_slots=slots):
        Snapshot.take(path, {"state": state}, compression=way)
    assert_same(Snapshot(path).get_state_dict_for_key("state"), dict(state))
    shutil.rmtree(path)


def test_async_take_compresses_in_the_background(tmp_path: Path) -> None:
    saved = StateDict(w=weights(6 * CHUNK), rest=torch.ones(1000))
    expected = {key: tensor.clone() for key, tensor in saved.items()}
    pending = Snapshot.async_take(tmp_path / "s", {"state": saved}, compression=Compression())
    for tensor in saved.values():
        tensor.zero_()
    snapshot = pending.wait()
    assert_same(snapshot.get_state_dict_for_key("state"), expected)
    assert snapshot.stats is not None
    assert snapshot.stats.stored_nbytes < 0.75 * snapshot.stats.nbytes


def test_a_catalog_and_an_option_compress_too(tmp_path: Path) -> None:
    state = {"state": StateDict(w=torch.zeros(CHUNK)), "rng": RNGState()}
    generation = Catalog(tmp_path / "compressed", compression="zstd").save(1, state)
    plain = Catalog(tmp_path / "plain").save(1, state)
    with override_options(compression="zstd"):
        optional = Catalog(tmp_path / "optional").save(1, state)
        refused = Catalog(tmp_path / "refused", compression="none").save(1, state)
    sizes = [
        sum(file.stat().st_size for file in Path(each.path).rglob("*") if file.is_file())
        for each in (generation, plain, optional, refused)
    ]
    assert max(sizes[0], sizes[2]) < min(sizes[1], sizes[3]) / 100
    state["state"]["w"].fill_(1)
    assert Catalog(tmp_path / "compressed").restore_latest(state) == generation
    assert not state["state"]["w"].any()


def test_an_uncompressed_snapshot_is_still_of_version_1(tmp_path: Path) -> None:
    state = {"state": StateDict(w=torch.ones(10))}
    versions = []
    for number, way in enumerate([None, "zstd"]):
        Snapshot.take(tmp_path / str(number), state, compression=way)
        index = (tmp_path / str(number) / ".snapshot_index").read_bytes().partition(b"\n")[0]
        versions.append(json.loads(index)["format_version"])
    assert versions == [1, 2]


@pytest.mark.parametrize("wrong", ["lz4", "zstd:", "zstd:23", "zstd:-51", "zstd:x", "auto:3", 3, True])
def test_what_is_no_compression_is_refused_before_anything_is_written(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compression"):
        Snapshot.take(tmp_path / "s", {"state": StateDict(w=torch.ones(1))}, compression=wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"level": 23}, {"level": 1.5}, {"level": True}, {"filter": "bitshuffle"}])
def test_an_option_object_with_a_wrong_value_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="compression"):
        Compression(**wrong)

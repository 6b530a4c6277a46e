"""Imports and includes point downwards only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "python" / "sucrose"
CSRC = REPOSITORY / "csrc"

# A part may import itself and what lies in lower layers. Parts that are not listed are on top of all.
LAYERS: list[set[str]] = [
    {"errors"},
    {"compression"},
    {"options"},
    {"engine", "storage", "formats", "config"},
    {"ranks"},
    {"snapshot"},
    {"catalog"},
    {"state"},
    {"data_order"},
    {"autopatch", "scenarios"},
    {"post"},
    {"overview"},
    {"interchange"},
    {"cli"},
]
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

# Highest first; a unit includes only units that come after it.
UNITS = [
    "bindings",
    "build_info",
    "engine",
    "fingerprint_extents",
    "write_job",
    "read_job",
    "device_transfer",
    "pipeline",
    "encoded_write",
    "frame_packer",
    "chunk_table",
    "codec",
    "content_pieces",
    "chunk_frames",
    "stored_frame",
    "compression_trial",
    "entropy",
    "file_io",
    "relay",
    "device_fingerprints",
    "cuda_devices",
    "copy_lane",
    "part_mover",
    "extents",
    "cuda_kernels",
    "cuda_device",
    "fingerprint",
    "fingerprint_kernel",
    "byte_group",
    "digest",
    "digest_kernel",
    "sha256",
    "sha256_kernel",
    "crc32",
    "crc32_kernel",
    "strided",
    "buffer_pool",
    "worker_pool",
    "trace",
    "kernel_bodies",
    "cuda_driver",
    "system_calls",
    "journal",
    "fault",
    "lifecycle",
    "handle",
    "error",
]
# Files that implement a part of another unit.
UNIT_OF = {
    "binding_casts": "bindings",
    "binding_faults": "bindings",
    "binding_relay": "bindings",
    "binding_wait": "bindings",
    "job_relay": "pipeline",
    "read_job_encoding": "read_job",
    "read_job_relay": "read_job",
    "write_job_encoding": "write_job",
    "file_io_uring": "file_io",
    "file_io_uring_stub": "file_io",
    "crc32_pclmul": "crc32",
    "crc32_arm": "crc32",
    "fingerprint_x86": "fingerprint",
    "fingerprint_arm": "fingerprint",
    "sha256_x86": "sha256",
    "sha256_arm": "sha256",
    "cuda_abi_check": "cuda_driver",
    "kernels_embedded": "cuda_kernels",
    "kernels_stub": "cuda_kernels",
}

PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
NATIVE_FILES = sorted([*CSRC.rglob("*.cpp"), *CSRC.rglob("*.h")])


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything a file imports; of `from a import b` both `a` and `a.b`."""
    package = ["sucrose", *path.relative_to(PACKAGE).parent.parts]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def imported_parts(path: Path) -> set[str]:
    modules = (module.split(".") for module in imported_modules(path))
    return {parts[1] for parts in modules if parts[0] == "sucrose" and len(parts) > 1}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def in_parts(*parts: str) -> list[Path]:
    return [path for path in PYTHON_FILES if part_of(path) in parts]


def unit_of(path: Path) -> str:
    return UNIT_OF.get(path.stem, path.stem)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", in_parts(*RANK), ids=name_of)
def test_a_python_part_imports_only_parts_below_it(path: Path) -> None:
    part = part_of(path)
    wrong = {other for other in imported_parts(path) if other in RANK and other != part and RANK[other] >= RANK[part]}
    assert not wrong


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_only_the_engine_and_the_fault_hooks_import_the_native_core(path: Path) -> None:
    assert part_of(path) in ("engine", "testing") or "_core" not in imported_parts(path)


@pytest.mark.parametrize("path", in_parts("engine", "storage", "formats", "config"), ids=name_of)
def test_the_lower_layers_know_nothing_of_torch(path: Path) -> None:
    assert "torch" not in {module.split(".")[0] for module in imported_modules(path)}


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_only_one_file_turns_a_tensor_into_a_pointer(path: Path) -> None:
    attributes = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert path == PACKAGE / "snapshot" / "tensors.py" or "data_ptr" not in attributes


@pytest.mark.parametrize("path", NATIVE_FILES, ids=name_of)
def test_a_native_unit_includes_only_units_below_it(path: Path) -> None:
    unit = unit_of(path)
    ours = {unit_of(Path(include)) for include in includes(path) if (CSRC / include).exists()}
    wrong = {other for other in ours if other != unit and UNITS.index(other) <= UNITS.index(unit)}
    assert not wrong


@pytest.mark.parametrize("path", NATIVE_FILES, ids=name_of)
def test_only_the_bindings_include_pybind11(path: Path) -> None:
    assert unit_of(path) == "bindings" or not [name for name in includes(path) if name.startswith("pybind11/")]

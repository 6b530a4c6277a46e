"""Installs the peers: ``python -m benchmarks.peers [NAME …]``.

Every peer gets a folder of its own below `.peers/`, without its dependency tree: it runs with the
torch that is already here, and two peers cannot disturb each other (one of them even shares an
import name with us). A benchmark process adds the one folder it needs to its path.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path

PEERS_DIR = Path(__file__).resolve().parent.parent / ".peers"

_SAFETENSORS = "safetensors==0.8.0"

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "safetensors": (_SAFETENSORS,),
    "torchsnapshot": (
        "torchsnapshot-nightly==2024.7.26",
        "PyYAML",
        "aiofiles",
        "aiohttp",
        "aiohappyeyeballs",
        "aiosignal",
        "attrs",
        "frozenlist",
        "idna",
        "importlib-metadata==8.5.0",
        "multidict",
        "mypy-extensions",
        "nest-asyncio",
        "propcache",
        "psutil",
        "pyre-extensions",
        "typing-inspect",
        "yarl",
        "zipp",
    ),
    "torch-checkpointing": ("torch-checkpointing==0.1.1", _SAFETENSORS),
    "runai-model-streamer": ("runai-model-streamer==0.17.0", "humanize", _SAFETENSORS),
    "fastsafetensors": ("fastsafetensors==0.5.0", _SAFETENSORS),
    "boto3": ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"),
    "tensorizer": (
        "tensorizer==2.12.1",
        "boto3",
        "botocore",
        "hiredis",
        "jmespath",
        "libnacl",
        "protobuf",
        "psutil",
        "python-dateutil",
        "redis",
        "s3transfer",
        "six",
        "urllib3",
    ),
}
"""What pip puts into the folder of each peer."""


def install(name: str) -> bool:
    """Installs one peer afresh; False where pip failed (pip itself says why)."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    target = ["--no-deps", "--upgrade", "--target", str(PEERS_DIR / name)]
    return subprocess.run([*pip, *target, *REQUIREMENTS[name]], check=False).returncode == 0


def main() -> int:
    """Installs the peers that are named on the command line, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(REQUIREMENTS))
    names = parser.parse_args().names or list(REQUIREMENTS)
    if unknown := set(names) - REQUIREMENTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(REQUIREMENTS)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    failed = [name for name in names if not install(name)]
    if failed:
        logging.getLogger(__name__).error("not installed: %s", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

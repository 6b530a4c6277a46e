"""`import sucrose` stays light."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"tensorboard", "pandas", "matplotlib", "fsspec", "boto3", "botocore"}


def test_importing_sucrose_imports_none_of_the_heavy_packages() -> None:
    program = "import sys, sucrose; print(*{name.split('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "sucrose" in result.stdout.split()
    assert HEAVY.isdisjoint(result.stdout.split())


def test_importing_sucrose_prints_and_warns_nothing() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import sucrose"], check=True, capture_output=True, text=True
    )
    assert result.stdout == ""
    assert result.stderr == ""

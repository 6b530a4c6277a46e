"""What tests share. `pytest` prints how the package was built, so that a failure can be told apart
from another build's."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

import sucrose

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


def pytest_configure() -> None:
    """Shells let what they start in the background ignore Ctrl-C, nohup SIGHUP; the tests' programs inherit that."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The engine in Python has no I/O backends."""
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(value, str) and value == "reference" for value in values):
            item.add_marker("any_backend")


def pytest_report_header() -> str:
    info = sucrose.build_info()
    return "sucrose: " + ", ".join(f"{name} {info[name]}" for name in sorted(info))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Log lines with paths that are no text reach the process that prints the reports."""
    return _as_text((yield))


def _as_text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_as_text(key): _as_text(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_as_text, value))
    return value


@pytest.fixture(params=["native", "reference"])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test once on each engine."""
    monkeypatch.setenv("SUCROSE_ENGINE", request.param)
    return str(request.param)


@pytest.fixture
def files_below() -> Callable[[Path], dict[str, bytes]]:
    """A function that returns the contents of all files below a folder, hidden ones too."""

    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return files

"""What tests share. `pytest` prints how the package was built, so that a failure can be told apart
from another build's."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import sucrose

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


_LONG_WITH_FEW_TESTS = {
    "test_benchmarks.py",
    "test_docs_cli.py",
    "test_docs_scenarios.py",
    "test_example_train.py",
    "test_kill_points.py",
    "test_mission_state.py",
    "test_rank_processes.py",
    "test_scenario_checkpoints_crash.py",
    "test_scenario_resume.py",
    "test_second_faults.py",
    "test_signals_anywhere.py",
    "test_state_workers.py",
    "test_states_under_torchrun.py",
    "test_tensorboard_server.py",
    "test_thousand_saves.py",
}


def pytest_configure() -> None:
    """Shells let what they start in the background ignore Ctrl-C, nohup SIGHUP; the tests' programs inherit that."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The engine in Python has no I/O backends. Where several processes take files, the longest come first."""
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(value, str) and value == "reference" for value in values):
            item.add_marker("any_backend")
    if hasattr(config, "workerinput"):  # of pytest-xdist; a long file that begins last keeps one process busy alone
        counts = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path.name not in _LONG_WITH_FEW_TESTS, -counts[item.path]))


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

"""TensorBoard curves that go on after a resume as if nothing had happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sucrose.scenarios.tensorboard.start import start_writer

if TYPE_CHECKING:
    from sucrose.scenarios.tensorboard.writer import ScenarioWriter

__all__ = ["ScenarioWriter", "start_writer"]


def __getattr__(name: str) -> object:
    """Imports torch and tensorboard for the class only when somebody asks for it."""
    if name == "ScenarioWriter":
        from sucrose.scenarios.tensorboard.writer import ScenarioWriter

        return ScenarioWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

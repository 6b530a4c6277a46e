"""The writer of ranks that leave writing to another."""

from __future__ import annotations

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from sucrose.scenarios.tensorboard.event_file import NoFile
from sucrose.scenarios.tensorboard.writer import RunWriter, ScenarioWriter


def _accept(self: object, *args: object, **kw: object) -> None:
    """Does nothing."""


class SilentWriter(ScenarioWriter):
    """Accepts every call, computes nothing for it, and touches no file.

    Example:
        >>> from sucrose.scenarios.tensorboard import start_writer
        >>> writer = start_writer("/nowhere/at/all", writes=False)
        >>> writer.add_histogram("weights", None, 1)
        >>> writer.positions()
        {}
    """

    vars().update({name: _accept for name in dir(SummaryWriter) if name.startswith("add_")})

    def resume(self, *, step: int | None, positions: Mapping[str, int] | None) -> None:
        pass

    def positions(self) -> dict[str, int]:
        return {}

    def _take_over(self) -> None:
        pass

    def _go_back(self, step: int | None, positions: Mapping[str, int] | None, purge_step: int | None) -> None:
        pass

    def _open(self, logdir: str, folder: str) -> RunWriter:  # noqa: ARG002 - as that of the base
        return RunWriter(NoFile(logdir))

"""The kills, and the comparison with the oracle."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from warm_python import WarmPython

from sucrose.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROGRAM = Path(__file__).with_name("program.py")
SETTINGS = "periodic_saving=enabled,periodic_saving_interval=0.05,keep_last=5"
LATEST_KILL_S = 0.8
CHECK_TIMEOUT_S = 60.0

_RUN_A_FILE = f"""
__file__ = {str(PROGRAM)!r}
exec(compile(open(__file__).read(), __file__, "exec"))
"""


@dataclass
class Outcome:
    """What was seen; `kills` in all, of which some came before the program had looked for its state."""

    seed: int
    kills: int = 0
    before_the_state_was_found: int = 0
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    """Lines of the oracle by their first word."""
    quarantined: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.seconds:.0f} s (seed {self.seed}), {self.before_the_state_was_found} of them "
            f"before the state was found: {self.seen['had']} states, {self.seen['durable']} reported durable, "
            f"{self.seen['found']} times found again, {self.quarantined} broken generations"
        )


def kill_again_and_again(
    folder: Path,
    environment: Mapping[str, str],
    *,
    kills: int,
    seed: int,
    tell: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Starts and kills the program in `folder`.

    Raises:
        AssertionError: it found a state that it never had, an older one than it should, or a mixture.
    """
    moments, outcome, began = random.Random(seed), Outcome(seed), time.monotonic()
    variables = {**environment, "HOME": str(folder), "LATTICE_CHECKPOINT_CONFIG": f"root={folder}/states,{SETTINGS}"}
    python = WarmPython(preload="import torch, sucrose.state.group, sucrose.state.local")
    try:
        for _ in range(kills):
            before = _found(folder)
            program = python.start(_RUN_A_FILE, [str(folder)], variables)
            time.sleep(moments.uniform(0, LATEST_KILL_S))
            with suppress(ProcessLookupError):  # it has failed, and tells why
                program.send(signal.SIGKILL)
            done = program.wait()
            assert done.returncode == -signal.SIGKILL, f"kill {outcome.kills + 1}, seed {seed}:\n{done.stderr}"
            outcome.kills += 1
            outcome.before_the_state_was_found += _found(folder) == before
            outcome.seconds = time.monotonic() - began
            _check(folder, outcome)
            tell(outcome)
        _check_once_more(python, folder, variables)
    finally:
        python.close()
    _check(folder, outcome)
    outcome.quarantined = len(Catalog(folder / "states").quarantined())
    return outcome


def _check(folder: Path, outcome: Outcome) -> None:
    """Everything that was found is in the oracle, and no older than what was found or durable before it."""
    had: dict[str, int] = {}
    newest = -1
    outcome.seen.clear()
    for number, line in enumerate(_lines(folder)):
        what, _step, token = line.split()
        outcome.seen[what] += 1
        where = f"line {number + 1} of {folder}/oracle, seed {outcome.seed}: {line}"
        if what == "had":
            had[token] = number
            continue
        assert token in had, f"never had: {where}"
        if what == "found":
            assert had[token] >= newest, f"older than a state that was there before: {where}"
        newest = max(newest, had[token])


def _check_once_more(python: WarmPython, folder: Path, variables: Mapping[str, str]) -> None:
    """The last kill is looked at by a start that is given time."""
    before = _found(folder)
    program = python.start(_RUN_A_FILE, [str(folder)], variables)
    deadline = time.monotonic() + CHECK_TIMEOUT_S
    while _found(folder) == before and "durable" in "".join(_lines(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        program.send(signal.SIGKILL)
    done = program.wait()
    assert done.returncode == -signal.SIGKILL, done.stderr
    if "durable" in "".join(_lines(folder)):
        assert _found(folder) > before, f"nothing was found any more in {folder}"


def _found(folder: Path) -> int:
    return sum(line.startswith("found") for line in _lines(folder))


def _lines(folder: Path) -> list[str]:
    path = folder / "oracle"
    return path.read_text().splitlines() if path.exists() else []

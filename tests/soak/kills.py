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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from warm_python import RunningProgram

PROGRAMS: dict[str, tuple[str, ...]] = {
    "states": ("states.py",),
    "snapshots": ("snapshots.py",),
    "generations": ("generations.py",),
    "files": ("files.py",),
    "checkpoints as files": ("checkpoints.py", ".pt"),
    "checkpoints as snapshots": ("checkpoints.py", ".snapshot"),
}
"""By name: the program, and what it is told beside its folder."""

SETTINGS = "periodic_saving=enabled,periodic_saving_interval=0.05,keep_last=5"
PRELOAD = "import numpy, torch, sucrose.catalog, sucrose.scenarios.scenario, sucrose.state.group, sucrose.state.local"
SETTLED_SHARE = 0.7
"""Of the kills those that come when the program has found its state, and is saving; the others come while it looks."""
LATEST_KILL_S = 0.4
MOST_STATES = 8
"""A settled program has a few states more before it is killed, at random up to so many: machines may be slow."""
COMPRESSED_SHARE = 0.3
PATIENCE_S = 120.0

_RUN_A_FILE = """
import sys
__file__ = sys.argv.pop(1)
sys.path.insert(0, sys.argv.pop(1))
exec(compile(open(__file__).read(), __file__, "exec"))
"""


@dataclass
class Outcome:
    """What was seen; `kills` in all, of which some came before the program had looked for its state."""

    program: str
    seed: int
    kills: int = 0
    before_the_state_was_found: int = 0
    compressed_starts: int = 0
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    """Lines of the oracle by their first word."""
    quarantined: int = 0

    def __str__(self) -> str:
        return (
            f"{self.program}: {self.kills} kills in {self.seconds:.0f} s (seed {self.seed}), "
            f"{self.before_the_state_was_found} of them before the state was found: {self.seen['had']} states, "
            f"{self.seen['durable']} reported durable, {self.seen['found']} times found again, "
            f"{self.quarantined} broken ones"
        )


def kill_again_and_again(
    folder: Path,
    environment: Mapping[str, str],
    *,
    kills: int,
    seed: int,
    program: str = "states",
    tell: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Starts and kills one of `PROGRAMS` in `folder`.

    Raises:
        AssertionError: it found a state that it never had, an older one than it should, none, or a mixture.
    """
    moments, outcome, began = random.Random(f"{seed} {program}"), Outcome(program, seed), time.monotonic()
    variables = {**environment, "HOME": str(folder), "LATTICE_CHECKPOINT_CONFIG": f"root={folder}/states,{SETTINGS}"}
    python = WarmPython(preload=PRELOAD)
    try:
        for _ in range(kills):
            looked = _looked(folder)
            compression = "zstd:1" if moments.random() < COMPRESSED_SHARE else "none"
            outcome.compressed_starts += compression != "none"
            running = _start(python, program, folder, {**variables, "SUCROSE_COMPRESSION": compression})
            is_settled, pause_s, states = (
                moments.random() < SETTLED_SHARE,
                moments.uniform(0, LATEST_KILL_S),
                moments.randrange(MOST_STATES),
            )
            if is_settled:
                _wait_until(running, lambda looked=looked: _looked(folder) > looked)
                had = len(_lines(folder))
                _wait_until(running, lambda had=had, states=states: len(_lines(folder)) >= had + states)
            time.sleep(pause_s)
            _kill(running, f"kill {outcome.kills + 1} of {program}, seed {seed}")
            outcome.kills += 1
            outcome.before_the_state_was_found += _looked(folder) == looked
            outcome.seconds = time.monotonic() - began
            _check(folder, outcome)
            tell(outcome)
        # The last kill is looked at by a start that is given time.
        looked = _looked(folder)
        running = _start(python, program, folder, variables)
        _wait_until(running, lambda: _looked(folder) > looked)
        _kill(running, f"the look after the last kill of {program}, seed {seed}")
        assert _looked(folder) > looked, f"nothing was looked for within {PATIENCE_S} s in {folder}"
    finally:
        python.close()
    _check(folder, outcome)
    outcome.quarantined = sum(1 for place in folder.rglob("quarantine") for _ in place.iterdir())
    return outcome


def _start(python: WarmPython, program: str, folder: Path, variables: Mapping[str, str]) -> RunningProgram:
    here = Path(__file__).parent
    script, *arguments = PROGRAMS[program]
    return python.start(
        _RUN_A_FILE, [str(here / "programs" / script), str(here.parent), str(folder), *arguments], variables
    )


def _kill(running: RunningProgram, what: str) -> None:
    with suppress(ProcessLookupError):  # it has failed, and tells why
        running.send(signal.SIGKILL)
    done = running.wait()
    assert done.returncode == -signal.SIGKILL, f"{what}:\n{done.stderr}"


def _wait_until(running: RunningProgram, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so() and time.monotonic() < deadline and _is_alive(running):
        time.sleep(0.002)


def _is_alive(running: RunningProgram) -> bool:
    try:
        running.send(0)
    except ProcessLookupError:
        return False
    return True


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
        if what == "nothing":
            assert newest == -1, f"lost what was there before: {where}"
            continue
        assert token in had, f"never had: {where}"
        if what == "found":
            assert had[token] >= newest, f"older than a state that was there before: {where}"
        newest = max(newest, had[token])


def _looked(folder: Path) -> int:
    """How many starts have come as far as to know what there is."""
    return sum(line.startswith(("found", "nothing")) for line in _lines(folder))


def _lines(folder: Path) -> list[str]:
    path = folder / "oracle"
    return path.read_text().splitlines() if path.exists() else []

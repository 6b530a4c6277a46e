"""``SOAK_KILLS=300 SOAK_SEED=1 python -m soak``, with the folder of the tests on the path."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

from soak.kills import Outcome, kill_again_and_again


def main() -> None:
    kills = int(os.environ.get("SOAK_KILLS", "300"))
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1 << 32)))
    folder = Path(tempfile.mkdtemp(prefix="sucrose-soak-"))
    print(f"{kills} kills, SOAK_SEED={seed}, in {folder}", flush=True)

    def tell(outcome: Outcome) -> None:
        if outcome.kills % 20 == 0:
            print(outcome, flush=True)

    try:
        print(kill_again_and_again(folder, os.environ, kills=kills, seed=seed, tell=tell))
    except AssertionError as error:
        sys.exit(f"FAILED: {error}\nThe states and the oracle are in {folder}")
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


main()

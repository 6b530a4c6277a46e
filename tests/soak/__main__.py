"""``SOAK_KILLS=300 SOAK_SEED=1 python -m soak``, with the folders of the tests and of their support on the path.

The kills are spread over all programs. SOAK_RESULT names a file for the counts; without it a run of a thousand kills
or more goes on record.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from soak.kills import PROGRAMS, Outcome, kill_again_and_again
from soak.result import MIN_KILLS_ON_RECORD, put_on_record, result_of, summary


def main() -> None:
    kills = int(os.environ.get("SOAK_KILLS", "300"))
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1 << 32)))
    folder = Path(tempfile.mkdtemp(prefix="sucrose-soak-"))
    print(f"{kills} kills, SOAK_SEED={seed}, in {folder}", flush=True)

    def tell(outcome: Outcome) -> None:
        if outcome.kills % 20 == 0:
            print(outcome, flush=True)

    outcomes = []
    try:
        for number, program in enumerate(PROGRAMS):
            own_folder = folder / program.replace(" ", "-")
            own_folder.mkdir()
            share = kills // len(PROGRAMS) + (number < kills % len(PROGRAMS))
            outcomes.append(
                kill_again_and_again(own_folder, os.environ, kills=share, seed=seed, program=program, tell=tell)
            )
            print(outcomes[-1], flush=True)
            shutil.rmtree(own_folder)
    except AssertionError as error:
        sys.exit(f"FAILED: {error}\nThe states and the oracle are in {folder}")
    folder.rmdir()
    result = result_of(outcomes, seed)
    print(summary(result), end="")
    if "SOAK_RESULT" in os.environ:
        Path(os.environ["SOAK_RESULT"]).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    elif kills >= MIN_KILLS_ON_RECORD:
        put_on_record(result)


main()

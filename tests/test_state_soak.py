"""A few kills of the soak; `make soak` has hundreds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from soak.kills import kill_again_and_again

if TYPE_CHECKING:
    from pathlib import Path


def test_a_program_that_is_killed_finds_a_state_that_it_really_had(tmp_path: Path) -> None:
    outcome = kill_again_and_again(tmp_path, os.environ, kills=5, seed=4)
    assert outcome.kills == 5
    assert outcome.quarantined == 0

"""A few kills of the soak; `make soak` has hundreds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from soak.kills import PROGRAMS, kill_again_and_again

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_is_killed_finds_a_state_that_it_really_had(tmp_path: Path, program: str) -> None:
    outcome = kill_again_and_again(tmp_path, os.environ, kills=4, seed=4, program=program)
    assert outcome.kills == 4
    assert outcome.quarantined == 0

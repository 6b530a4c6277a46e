"""Options from the environment."""

from __future__ import annotations

import pytest

from sucrose.errors import ConfigError
from sucrose.options import Options


@pytest.mark.parametrize("text", ["-1", "1.5", "much", "", str(1 << 63), "9" * 30])
def test_a_size_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="SUCROSE_STAGING_NBYTES"):
        Options.from_environment({"SUCROSE_STAGING_NBYTES": text})


def test_the_largest_size_is_taken() -> None:
    assert Options.from_environment({"SUCROSE_STAGING_NBYTES": str((1 << 63) - 1)}).staging_nbytes == (1 << 63) - 1

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


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "soon", ""])
def test_a_grace_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=f"SUCROSE_GRACE_S='{text}': expected a number of seconds above 0"):
        Options.from_environment({"SUCROSE_GRACE_S": text})


@pytest.mark.parametrize(
    ("text", "signals"),
    [("", ""), ("USR1", "SIGUSR1"), (" sigusr2 ", "SIGUSR2"), ("SIGUSR1,usr2", "SIGUSR1,SIGUSR2")],
)
def test_warning_signals_are_known_by_their_names(text: str, signals: str) -> None:
    assert Options.from_environment({"SUCROSE_WARN_SIGNALS": text}).warn_signals == signals


@pytest.mark.parametrize("text", ["SIGTERM", "10", "USR1 USR2", "USR1,"])
def test_other_signals_are_no_warnings(text: str) -> None:
    with pytest.raises(ConfigError, match="expected SIGUSR1 or SIGUSR2"):
        Options.from_environment({"SUCROSE_WARN_SIGNALS": text})


def test_a_compression_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="SUCROSE_COMPRESSION: compression 'lz4': expected none, zstd"):
        Options.from_environment({"SUCROSE_COMPRESSION": "lz4"})

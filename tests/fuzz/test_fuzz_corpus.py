"""Everything that fuzzing has kept: seeds, inputs that reach far, and each finding, which was mended since."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from fuzz_targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.filterwarnings("ignore")  # torch's, of what a damaged pickle asks for
@pytest.mark.parametrize("target", TARGETS)
def test_what_was_fuzzed_once_is_read_or_refused(target: str) -> None:
    module = importlib.import_module(f"fuzz_targets.{target}")
    kept = sorted((CORPUS / target).iterdir())
    assert kept, "the corpus is kept with the tests"
    for data in (*module.seeds().values(), *(path.read_bytes() for path in kept)):
        module.check(data)


def test_every_target_has_a_folder_in_the_corpus() -> None:
    native = {path.stem for path in (Path(__file__).parent / "native").glob("*.cpp")}
    assert {path.name for path in CORPUS.iterdir()} == {*TARGETS, *native}

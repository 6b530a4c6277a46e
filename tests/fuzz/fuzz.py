"""Fuzzes one target with atheris: ``python tests/fuzz/fuzz.py TARGET [options of libFuzzer] [inputs or folders]``.

What is new of the corpus goes to ``build/fuzzing/TARGET``, findings to ``build/fuzzing/findings``. `make fuzz` runs all
targets, with the native module built under AddressSanitizer.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path

import atheris

_OWN = Path(__file__).parent
_READERS = ("formats", "snapshot", "storage", "catalog", "scenarios", "state", "engine", "interchange", "post")
_WORK = Path(os.environ.get("FUZZ_FOLDER", "build/fuzzing"))


def main() -> None:
    """Fuzzes until an option of libFuzzer ends it, or something is found."""
    target, *options = sys.argv[1:]
    sys.path.insert(0, str(_OWN))
    logging.disable(logging.WARNING)  # quarantines and fall-backs, a thousand a second
    with atheris.instrument_imports(include=[f"sucrose.{part}" for part in _READERS]):
        module = importlib.import_module(f"fuzz_targets.{target}")
    seeds, found = _WORK / f"seeds-{target}", _WORK / target
    findings = _WORK / "findings"
    for folder in (seeds, found, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in module.seeds().items():
        (seeds / name).write_bytes(data)
    kept = _OWN / "corpus" / target
    folders = [str(found), *([str(kept)] if kept.is_dir() else []), str(seeds)]
    if any(not option.startswith("-") for option in options):
        folders = []  # inputs to look at again, or folders to merge
    limits = ["-timeout=20", "-rss_limit_mb=6144", f"-artifact_prefix={findings}/{target}-"]
    again = f"{sys.executable} {_OWN / 'fuzz.py'} {target}"  # how libFuzzer starts others of its kind, to merge
    atheris.Setup([again, *limits, *options, *folders], module.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

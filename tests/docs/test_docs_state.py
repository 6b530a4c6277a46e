"""The examples of docs/state.md, each a run of one program, in their order."""

from __future__ import annotations

import os
import re
from pathlib import Path

from warm_python import WarmPython

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "state.md"
RUN = "import os, sys; __file__ = 'program.py'; os.chdir(sys.argv[1]); exec(compile(sys.argv[2], __file__, 'exec'))"


def test_each_example_goes_on_where_the_one_before_has_ended(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert examples
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LATTICE_", "XDG_"))}
    environment["HOME"] = str(tmp_path)
    python = WarmPython()
    try:
        for example in examples:
            (tmp_path / "program.py").write_text(example)
            result = python.run(RUN, [str(tmp_path), example], environment)
            assert result.returncode == 0, f"{example}\n{result.stderr}"
    finally:
        python.close()

"""The examples of docs/scenarios.md: the files, the program and the commands, in their order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "scenarios.md"


def test_the_files_programs_and_commands_of_the_document_work(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for path, content in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    commands = re.findall(r"^\$ sucrose (.*)$", text, re.MULTILINE)
    assert len(commands) == text.count("$ sucrose") > 5
    environment = {**os.environ, "HOME": str(tmp_path)}
    for arguments in [["-c", program], *(["-m", "sucrose", *shlex.split(command)] for command in commands)]:
        ended = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{arguments}\n{ended.stdout}\n{ended.stderr}"
    assert (tmp_path / "accuracy.png").stat().st_size > 1000
    assert "base/wide" in (tmp_path / "report.html").read_text(encoding="utf-8")

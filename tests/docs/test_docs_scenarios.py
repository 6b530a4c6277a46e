"""The examples of docs/scenarios.md: the files, the program and the commands, in their order."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from warm_python import WarmPython

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "scenarios.md"
COMMAND = "from sucrose.cli.program import main; main()"


def test_the_files_programs_and_commands_of_the_document_work(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for path, content in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    commands = re.findall(r"^\$ sucrose (.*)$", text, re.MULTILINE)
    assert len(commands) == text.count("$ sucrose") > 5
    environment = {**os.environ, "HOME": str(tmp_path)}
    there = f"import os; os.chdir({str(tmp_path)!r})\n"
    python = WarmPython("import torch, torch.utils.tensorboard, torch._dynamo")
    try:
        runs = [(there + program, ""), *((there + COMMAND, command) for command in commands)]
        for code, arguments in runs:
            ended = python.run(code, shlex.split(arguments), environment)
            assert ended.returncode == 0, f"{arguments}\n{ended.stdout}\n{ended.stderr}"
    finally:
        python.close()
    assert (tmp_path / "accuracy.png").stat().st_size > 1000
    assert "base/wide" in (tmp_path / "report.html").read_text(encoding="utf-8")

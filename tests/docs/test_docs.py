"""The documents are true: their Python blocks run, and what they list is all there is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from sucrose.options import Options

ROOT = Path(__file__).parents[2]
TESTED_ELSEWHERE = {"docs/cli.md", "docs/distributed.md", "docs/scenarios.md", "docs/state.md"}
EVERY_DOCUMENT = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
DOCUMENTS = [document for document in EVERY_DOCUMENT if document not in TESTED_ELSEWHERE]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_python_blocks_of_a_document_run_one_after_another(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        line = text.count("\n", 0, match.start()) + 1
        source = "\n" * line + match.group(1)
        exec(compile(source, str(ROOT / document), "exec"), namespace)


def test_the_options_table_has_every_variable_with_its_default() -> None:
    table = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(SUCROSE_\w+)` \| `?(\w*)`? \|", table, re.MULTILINE))
    options = {f"SUCROSE_{field.name.upper()}": str(field.default) for field in dataclasses.fields(Options)}
    assert listed == options


def test_local_links_lead_somewhere() -> None:
    for document in [*EVERY_DOCUMENT, "benchmarks/README.md"]:
        folder = (ROOT / document).parent
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / document).read_text(encoding="utf-8"))
        missing = [link for link in links if not (folder / link).exists()]
        assert not missing, f"{document} links to {missing}"

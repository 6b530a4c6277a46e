"""The HTML report, as a browser shows it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import matplotlib.image
import numpy as np
import pytest
import torch
from event_files import scalar, version, write_events

from sucrose.catalog.retention import Retention
from sucrose.errors import ConfigError
from sucrose.overview.report import write_report
from sucrose.overview.report_axis import Axis
from sucrose.overview.report_curves import draw_curves
from sucrose.overview.text import tick_text
from sucrose.post.series import Series
from sucrose.scenarios.checkpoints.folder import CheckpointFolder
from sucrose.scenarios.record import Record
from sucrose.scenarios.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
NAME = "events.out.tfevents.1000000000.host.1.0"
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'{{7777*7777}}"
BLUE = (0x00, 0x72, 0xB2)


def checkpoint(workspace: Path, scenario: str, record: Record, nbytes: int = 1000) -> None:
    """Saves one as a training run does."""
    names = Workspace.open(workspace, needs_config=False).checkpoint_names(scenario)
    CheckpointFolder(names, Retention()).write({"model": torch.zeros(nbytes // 4), "step": record.step}, record)


def record(epoch: int, **options: Any) -> Record:
    content: dict[str, Any] = {"config": {}, "overrides": (), "metrics": {}, "logs": {}, "is_mid_epoch": False}
    return Record(epoch=epoch, step=100 * epoch, saved_ns=10**18, **{**content, **options})


def workspace_with(tmp_path: Path, config: str, curves: dict[tuple[str, str], Sequence[float]]) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    for number, ((run, tag), values) in enumerate(curves.items()):
        events = [scalar(tag, step, value) for step, value in enumerate(values)]
        write_events(folder / "logs" / run / f"{NAME}{number}", [version(), *events])
    return folder


CONFIG = """\
base:
  model.dim: 100
  data.path: data
  data.cache: ${data.path}/cache
base/case1:
  model.dim: 200
new: {}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    curves = {
        ("base", "loss"): np.geomspace(5, 0.01, 60).tolist(),
        ("base/case1", "loss"): np.geomspace(9, 0.01, 60).tolist(),
        ("base", "accuracy"): [0.5, 0.75, float("nan"), 0.9],
        ("base/case1/accuracy_train", "accuracy"): [0.1],
    }
    folder = workspace_with(tmp_path, CONFIG, curves)
    for epoch in (2, 10):
        checkpoint(folder, "base", record(epoch, metrics={"loss": 1 / epoch}), 40_000)
    checkpoint(folder, "base/case1", record(9, overrides=("model.dim=300",), metrics={"loss": 0.5}), 10_000)
    return folder


def report_of(folder: Path, **options: float) -> str:
    path = folder.parent / "report.html"
    write_report(Workspace.open(folder, needs_config=False), str(path), **options)
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Elements with their attributes, and texts with the names of the elements around them."""

    VOID = frozenset({"meta", "link", "img", "path", "br"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open[-1] not in ("script", "style"):
            self.texts.append(data.strip())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def test_everything_stands_in_the_page_without_a_script(workspace: Path) -> None:
    page = Page(report_of(workspace))
    text = " ".join(page.texts)
    for expected in (
        "base/case1",
        "new",
        "not started",
        "model.dim",
        "model.dim=300",
        "e9: model.dim=300",
        "from base",
    ):
        assert expected in text
    assert "${data.path}/cache" in text
    assert "data/cache" in text
    paths = [
        attributes["d"] for tag, attributes in page.elements if tag == "path" and "line c" in str(attributes["class"])
    ]
    drawn = [path for path in paths if path and path.count("L") > 40]
    assert len(drawn) == 2


def test_nothing_is_fetched_and_only_the_own_script_may_run(workspace: Path) -> None:
    page = Page(report_of(workspace))
    fetched = [
        value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert fetched == ["data:,"]
    [policy] = [str(attributes["content"]) for _, attributes in page.elements if attributes.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy)


def test_what_comes_from_the_workspace_stays_text(tmp_path: Path) -> None:
    folder = workspace_with(
        tmp_path,
        f"base:\n  field: {json.dumps(HOSTILE)}\n",
        {(f"base {HOSTILE}", HOSTILE): [1.0, 2.0]},
    )
    plain = folder.parent / "plain"
    plain.mkdir()
    (folder.rename(plain / HOSTILE.replace("/", ""))).is_dir()
    hostile = plain / HOSTILE.replace("/", "")
    checkpoint(hostile, "base", record(1, overrides=(f"field={HOSTILE}",), metrics={HOSTILE: 1.0}))
    source = report_of(hostile)
    page = Page(source)
    assert (page.count("script"), page.count("img")) == (2, 0)
    assert "60481729" not in " ".join(page.texts)
    assert sum(HOSTILE in text for text in page.texts) >= 4
    if CHROMIUM is not None:
        probed = probe(source, tmp_path, "return { title: document.title };")
        assert "owned" not in probed["title"].replace(HOSTILE.replace("/", ""), "")
        assert probed["errors"] == []


def test_file_names_that_are_not_utf8_do_not_stop_it(tmp_path: Path) -> None:
    folder = workspace_with(tmp_path, "base: {}", {("base/\udcff", "loss"): [1.0]})
    assert "base/?" in " ".join(Page(report_of(folder)).texts)


def test_an_empty_workspace_has_a_report(tmp_path: Path) -> None:
    text = " ".join(Page(report_of(tmp_path)).texts)
    for expected in ("No scenarios yet.", "Nothing was logged yet.", "No checkpoints yet.", "no config.yaml"):
        assert expected in text


def test_a_report_that_fails_leaves_the_old_one(workspace: Path) -> None:
    path = workspace.parent / "report.html"
    path.write_text("old")
    with pytest.raises(ConfigError, match="smoothing"):
        report_of(workspace, smoothing=2.0)
    assert path.read_text() == "old"


def test_long_curves_are_thinned_and_keep_their_peaks(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(30_000)
    values[12_345] = 99.0
    series = Series(np.arange(30_000), values, np.zeros(30_000))
    curves = draw_curves({(f"run{number}", "loss"): series for number in range(30)}, 0.0)
    for line in curves.data["panels"][0]["lines"]:
        assert len(line["steps"]) <= 1000
        assert dict(zip(line["steps"], line["values"], strict=True))[12_345] == 99.0
    many = draw_curves({(f"run{run}", f"tag{tag}"): series for run in range(20) for tag in range(20)}, 0.0)
    assert len(json.dumps(many.data)) + sum(len(line.path) for panel in many.panels for line in panel.lines) < 6 << 20


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [0.0, 0.0],
        [-1e308, 1e308],
        [1e-300, 2e-300],
        [float("nan")],
        [float("inf"), 1.0],
        [1e16, 1e16 + 2],
        [1e-9],
    ],
)
def test_any_values_are_drawn_inside_of_the_panel(values: list[float]) -> None:
    count = len(values)
    curves = draw_curves({("run", "t"): Series(np.arange(count), np.array(values), np.zeros(count))}, 0.0)
    [panel] = curves.panels
    numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", panel.lines[0].path.replace("h0", ""))]
    assert len(numbers) == 2 * np.isfinite(values).sum()
    assert all(0 <= number <= 440 for number in numbers)
    json.dumps(curves.data, allow_nan=False)
    for axis in (panel.x, panel.y):
        ticks = axis.ticks()
        assert 1 <= len(ticks) <= 12
        assert len({text for _, text in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 2999, ["0", "1000", "2000"]),
        (0, 50_000, ["0", "10k", "20k", "30k", "40k", "50k"]),
        (0.1, 0.9, ["0.2", "0.4", "0.6", "0.8"]),
        (0, 0.00125, ["0", "0.00025", "0.0005", "0.00075", "0.001", "0.00125"]),
        (0, 12_500, ["0", "2.5k", "5k", "7.5k", "10k", "12.5k"]),
        (-1, 1, ["-1", "-0.5", "0", "0.5", "1"]),
        (1_000_000, 1_000_010, ["1000000", "1000002", "1000004", "1000006", "1000008", "1000010"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, texts: list[str]) -> None:
    axis = Axis.over(np.array([low, high], float), 0, 100, is_exact=True)
    assert [text for _, text in axis.ticks()] == texts


def test_a_logarithmic_axis_has_powers_of_ten() -> None:
    axis = Axis.over(np.array([1e-3, 10.0]), 0, 100, is_log=True, is_exact=True)
    assert axis.ticks() == [(0.0, "1e-3"), (25.0, "1e-2"), (50.0, "1e-1"), (75.0, "1e0"), (100.0, "1e1")]


def test_neighbouring_ticks_never_look_alike() -> None:
    for spacing in (0.001, 0.25, 2.5, 20.0, 2500.0, 1e6):
        for base in (0.0, 1e4, 1e6, 123e9):
            first = round(base / spacing) * spacing
            second = first + spacing
            assert tick_text(first, spacing, second) != tick_text(second, spacing, second)


def chromium(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
    ]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--window-size=1300,1700"]
    return subprocess.run(
        [CHROMIUM, *flags, *arguments], capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=120
    )


def probe(source: str, folder: Path, body: str) -> Any:
    """What the body of a function returns in the page, and the errors that there were."""
    before = (
        "<script>const errors = []; addEventListener('error', (event) => errors.push(String(event.message)));</script>"
    )
    after = (
        "<pre id='probe'></pre><script>addEventListener('load', () => {"
        f"let found = {{}}; try {{ found = (() => {{ {body} }})(); }} catch (error) {{ errors.push(String(error)); }}"
        "found.errors = errors; document.getElementById('probe').textContent = JSON.stringify(found); });</script>"
    )
    assert source.count("</body>") == 1
    opened = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', lambda _: before, source)
    page = folder / "probed.html"
    page.write_text(opened.replace("</body>", f"{after}</body>"), encoding="utf-8")
    dumped = chromium(f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()).stdout
    [found] = re.findall(r'<pre id="probe">(.*?)</pre>', dumped, re.DOTALL)
    return json.loads(html.unescape(found))


@needs_chromium
def test_a_browser_sorts_hides_and_shows_values(workspace: Path, tmp_path: Path) -> None:
    found = probe(
        report_of(workspace),
        tmp_path,
        """
        const all = (selector) => [...document.querySelectorAll(selector)];
        const rows = () => all("#runs-table tbody tr").map((row) => row.cells[0].textContent.trim().split(/\\s/)[0]);
        const head = all("#runs-table th").find((cell) => cell.textContent === "epochs");
        const result = { unsorted: rows() };
        head.click(); result.ascending = rows();
        head.click(); result.descending = rows();
        result.boxes = all("figure g[data-run] path:last-child").map((path) => {
          const { width, height } = path.getBoundingClientRect();
          return [width, height];
        });
        result.panels = all("figcaption").map((caption) => caption.textContent);
        const panel = all("figure").find((figure) => figure.textContent.trim().startsWith("loss"));
        const box = panel.querySelector("svg").getBoundingClientRect();
        const move = new PointerEvent("pointermove", { clientX: box.left + box.width * 0.98, clientY: box.top + 50 });
        panel.querySelector("svg").dispatchEvent(move);
        result.tip = panel.querySelector(".tip").innerText;
        all("#legend button")[0].click();
        const isShown = (g) => g.getBoundingClientRect().width > 0;
        result.shown = all("figure g[data-run]").filter(isShown).map((g) => g.dataset.run);
        panel.querySelector("svg").dispatchEvent(move);
        result.tipWithout = panel.querySelector(".tip").innerText;
        result.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
        const before = getComputedStyle(document.body).backgroundColor;
        document.getElementById("theme").click();
        result.themes = [before, getComputedStyle(document.body).backgroundColor];
        result.bars = all(".bar").map((bar) => bar.getBoundingClientRect().height);
        return result;
        """,
    )
    assert found["errors"] == []
    assert [name for name in found["requests"] if not name.startswith("data:")] == []
    assert found["unsorted"] == ["base", "base/case1", "new"]
    assert found["ascending"] == ["new", "base/case1", "base"]
    assert found["descending"] == ["base", "base/case1", "new"]
    assert [caption.split()[0] for caption in found["panels"]] == ["accuracy", "loss"]
    assert sum(width > 200 and height > 50 for width, height in found["boxes"]) == 3
    assert re.fullmatch(r"step 59\s+base\s+0\.01\s+base/case1\s+0\.01\s*", found["tip"])
    assert re.fullmatch(r"step 59\s+base/case1\s+0\.01\s*", found["tipWithout"])
    assert set(found["shown"]) == {"1"}
    assert found["themes"][0] != found["themes"][1]
    base_small, base_large, case1 = found["bars"]
    assert base_small == base_large
    assert 0 < case1 < 0.5 * base_large


@needs_chromium
@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_browser_shows_the_curves_with_and_without_scripts(
    workspace: Path, tmp_path: Path, has_scripts: bool
) -> None:
    source = report_of(workspace)
    page, picture = tmp_path / "page.html", tmp_path / "picture.png"
    page.write_text(source if has_scripts else re.sub(r"<script.*?</script>", "", source, flags=re.DOTALL))
    done = chromium(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", page.as_uri())
    assert "CONSOLE" not in done.stderr
    pixels = (matplotlib.image.imread(picture)[..., :3] * 255).astype(int)
    is_blue = (np.abs(pixels - BLUE).max(axis=2) < 12).any(axis=0)
    assert is_blue.sum() > 200  # columns with something of the first run's colour; bars have below a hundred

"""Curves in matplotlib: lines, scales, smoothing, and the image of many panels."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sucrose.errors import ConfigError
from sucrose.post import plot_evolution
from sucrose.post.image_file import write_image
from sucrose.post.panels import draw_panels
from sucrose.post.scale import suits_log_scale
from sucrose.post.smoothing import smooth
from sucrose.post.thinning import thin

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

Curves = dict[tuple[str, str], Any]


def frame(curves: Curves) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "value": np.asarray(values, float),
                "wall_time": 1e9 + 60.0 * np.arange(len(values)),
                "run": run,
                "tag": tag,
            },
            index=pd.Index(10 * np.arange(len(values)), name="step"),
        )
        for (run, tag), values in curves.items()
    ]
    return pd.concat(parts)


TWO = frame({("b", "loss"): [3.0, 2.0, 1.0], ("a", "loss"): [1.0, 1.5, 2.0]})


@pytest.fixture
def axes() -> Axes:
    return Figure().add_subplot()


def legend_of(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_there_is_a_line_with_a_legend_for_each_run_and_tag(axes: Axes) -> None:
    before = dict(mpl.rcParams)
    lines = plot_evolution(TWO, axes)
    assert [line.get_label() for line in lines] == legend_of(axes) == ["a - loss", "b - loss"]
    assert [list(line.get_xdata()) for line in lines] == [[0, 10, 20]] * 2
    assert list(lines[1].get_ydata()) == [3.0, 2.0, 1.0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("step", "loss", "linear")
    assert dict(mpl.rcParams) == before


def test_labels_are_what_the_caller_says(axes: Axes) -> None:
    plot_evolution(TWO, axes, xlabel="", ylabel="error", legend_fmt="{tag} of {run}")
    assert legend_of(axes) == ["loss of a", "loss of b"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("", "error")


def test_without_labels_there_is_no_legend(axes: Axes) -> None:
    plot_evolution(TWO, axes, legend_fmt="")
    assert axes.get_legend() is None


def test_of_several_tags_none_is_the_label(axes: Axes) -> None:
    plot_evolution(frame({("a", "loss"): [1.0], ("a", "accuracy"): [0.5]}), axes)
    assert axes.get_ylabel() == "value"


@pytest.mark.parametrize(
    "fmts",
    [
        ["r--", "g:"],
        ["r--", {"color": "g", "linestyle": ":"}],
        {"a": "r--", "b": "g:"},
        {("a", "loss"): "r--", "loss": "g:", "a": "k"},
    ],
)
def test_formats_are_a_sequence_or_a_mapping(axes: Axes, fmts: Any) -> None:
    lines = plot_evolution(TWO, axes, fmts)
    assert [(line.get_color(), line.get_linestyle()) for line in lines] == [("r", "--"), ("g", ":")]


def test_a_sequence_of_formats_begins_again(axes: Axes) -> None:
    lines = plot_evolution(frame({(run, "loss"): [1.0, 2.0] for run in "abc"}), axes, ["r", "g"])
    assert [to_hex(line.get_color()) for line in lines] == ["#ff0000", "#008000", "#ff0000"]


def test_a_single_point_can_be_seen(axes: Axes) -> None:
    [line] = plot_evolution(frame({("a", "loss"): [1.0]}), axes)
    assert line.get_marker() != "None"


def test_names_with_dollars_are_drawn_as_they_are(axes: Axes) -> None:
    plot_evolution(frame({("$\\frac$", "a$b$c"): [1.0, 2.0]}), axes)
    FigureCanvasAgg(axes.figure).draw()  # would raise for a formula that is none


DECAY = np.geomspace(10.0, 1e-3, 200)


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        (DECAY, True),
        (np.append(DECAY, [np.nan, np.inf]), True),
        (np.append(DECAY, 0.0), False),
        (np.append(DECAY, -1.0), False),
        (np.linspace(0.1, 1.0, 200), False),
        (np.append(np.linspace(0.1, 1.0, 200), 1e6), False),
        (np.append(np.linspace(0.1, 1.0, 20), 1e-6), False),
        ([1.0, 100.0], True),
        ([1e-200, 1e200], True),
        ([1.0, 99.0], False),
        ([np.nan], False),
        ([], False),
    ],
)
def test_the_scale_is_chosen_from_the_data(axes: Axes, values: Any, is_log: bool) -> None:
    assert suits_log_scale(np.asarray(values, float)) is is_log
    plot_evolution(frame({("a", "loss"): values}), axes)
    assert axes.get_yscale() == ("log" if is_log else "linear")


@pytest.mark.parametrize(
    ("log_scale", "scales"),
    [
        (True, ("linear", "log")),
        (False, ("linear", "linear")),
        ("y", ("linear", "log")),
        ("x", ("log", "linear")),
        ("both", ("log", "log")),
    ],
)
def test_the_scale_is_what_the_caller_says(axes: Axes, log_scale: Any, scales: tuple[str, str]) -> None:
    plot_evolution(frame({("a", "loss"): DECAY - 0.5}), axes, log_scale=log_scale)
    FigureCanvasAgg(axes.figure).draw()
    assert (axes.get_xscale(), axes.get_yscale()) == scales


@pytest.mark.parametrize(
    "options",
    [
        {"log_scale": "z"},
        {"log_scale": 2},
        {"smoothing": 1.0},
        {"smoothing": np.nan},
        {"legend_fmt": "{runs}"},
        {"legend_fmt": "{run"},
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_drawn(axes: Axes, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        plot_evolution(TWO, axes, **options)
    assert not axes.lines


def test_another_frame_is_refused(axes: Axes) -> None:
    with pytest.raises(ConfigError, match="'tag'"):
        plot_evolution(TWO.drop(columns="tag"), axes)


def test_a_frame_without_rows_gives_no_lines(axes: Axes) -> None:
    assert plot_evolution(TWO[:0], axes) == []


def test_smoothing_weighs_earlier_values_less_and_less() -> None:
    values = np.array([4.0, 0.0, np.nan, 1.0, np.inf, 2.0])
    expected, finite = values.copy(), [0, 1, 3, 5]
    for count, index in enumerate(finite, start=1):
        weights = 0.6 ** np.arange(count)[::-1]
        expected[index] = np.average(values[finite[:count]], weights=weights)
    np.testing.assert_allclose(smooth(values, 0.6), expected)


def test_the_raw_curve_is_faint_behind_the_smoothed_one(axes: Axes) -> None:
    [line, _] = plot_evolution(TWO, axes, smoothing=0.5)
    raw = axes.lines[1]
    assert list(raw.get_ydata()) == [1.0, 1.5, 2.0]
    assert list(line.get_ydata()) != [1.0, 1.5, 2.0]
    assert raw.get_color() == line.get_color()
    assert raw.get_alpha() is not None
    assert raw.get_alpha() < 0.5
    assert raw.get_zorder() < line.get_zorder()
    assert legend_of(axes) == ["a - loss", "b - loss"]


def test_without_axes_those_of_pyplot_are_used() -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    own = plt.figure().add_subplot()
    try:
        [line, _] = plot_evolution(TWO)
        assert line.axes is own
    finally:
        plt.close("all")


def test_with_axes_pyplot_is_not_even_imported() -> None:
    program = (
        "import io, sys, pandas as pd; from matplotlib.figure import Figure\n"
        "from sucrose.post import plot_evolution\n"
        "df = pd.DataFrame({'value': [1.0], 'wall_time': [0.0], 'run': 'a', 'tag': 't'}, index=[1])\n"
        "figure = Figure(); plot_evolution(df, figure.add_subplot()); figure.savefig(io.BytesIO())\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("seed", range(3))
def test_thinning_keeps_ends_peaks_and_gaps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(10_000)
    values[rng.integers(10_000, size=3)] = [1e9, -1e9, np.nan]
    kept = thin(values, 500)
    assert len(kept) <= 500
    assert np.all(np.diff(kept) > 0)
    assert (kept[0], kept[-1]) == (0, 9999)
    assert {np.nanmax(values), np.nanmin(values)} <= set(values[kept])
    assert np.isnan(values[kept]).any()
    np.testing.assert_array_equal(thin(values[:500], 500), np.arange(500))


def many() -> pd.DataFrame:
    x = np.linspace(0, 1, 50)
    return frame(
        {(run, tag): (i + 1) * x + 1 for i, run in enumerate(["s/a", "s/b", "s/c"]) for tag in ("t", "u", "v")}
    )


def test_each_tag_has_a_panel_and_each_run_one_colour() -> None:
    figure = draw_panels(many(), title="work")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["t", "u", "v"]
    colours = [[line.get_color() for line in axes.lines] for axes in figure.axes]
    assert colours[0] == colours[1] == colours[2]
    assert len(set(colours[0])) == 3
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["s/a", "s/b", "s/c"]
    assert legend.get_title().get_text() == "work"


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    ends = {("s/a", "t"): [0.0, 0.5], ("s/b", "t"): [1.0, 0.51], ("s/c", "t"): [0.7, 0.51]}
    figure = draw_panels(frame(ends))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    names: list[Annotation] = [text for text in figure.axes[0].texts if text.get_text()]  # type: ignore[misc]
    assert sorted(name.get_text() for name in names) == ["a", "b", "c"]
    boxes = sorted((name.get_window_extent() for name in names), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 + 2 for lower, upper in pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    by_name = {name.get_text(): name.get_color() for name in names}
    assert by_name == {line.get_label()[-1:]: line.get_color() for line in figure.axes[0].lines}


def test_runs_beyond_the_colours_are_told_apart_by_dashes() -> None:
    figure = draw_panels(frame({(f"run{number:02}", "t"): [1.0, 2.0] for number in range(20)}))
    lines = figure.axes[0].lines
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}) == 20


def test_a_legend_has_no_more_runs_than_can_be_told_apart() -> None:
    figure = draw_panels(frame({(f"base/run{number:03}", "t"): [1.0, 2.0] for number in range(300)}))
    FigureCanvasAgg(figure).draw()
    [legend] = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert (texts[0], texts[-1], len(texts)) == ("base/run000", "and 276 more", 25)
    box = legend.get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert figure.axes[0].get_window_extent().y1 < box.y0
    assert len(figure.axes[0].lines) == 300


def test_a_panel_without_a_finite_value_says_so() -> None:
    figure = draw_panels(frame({("a", "t"): [np.nan, np.nan]}))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no finite value"]
    assert not len(figure.axes[0].get_yticks())


def test_names_that_cannot_be_drawn_are_drawn_as_escapes_and_without_a_word(tmp_path: Path) -> None:
    figure = draw_panels(frame({("a\x1b[31m", "t\ud800"): [1.0, 2.0], ("模型", "t"): [1.0, 2.0]}))
    write_image(figure, str(tmp_path / "p.png"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"a\x1b[31m", "模型"]


def test_time_is_counted_from_the_first_point_of_each_run() -> None:
    figure = draw_panels(frame({("a", "t"): np.ones(200), ("b", "t"): [1.0, 2.0]}), x="time")
    assert figure.axes[0].get_xlabel() == "hours since the first point"
    [a, b] = figure.axes[0].lines
    assert (list(b.get_xdata()), max(a.get_xdata())) == ([0.0, 1 / 60], pytest.approx(199 / 60))


@pytest.mark.parametrize(("name", "magic"), [("p.png", b"\x89PNG"), ("p.svg", b"<?xml"), ("p.PDF", b"%PDF")])
def test_an_image_takes_the_place_of_an_old_one(tmp_path: Path, name: str, magic: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    write_image(draw_panels(TWO), str(path))
    assert path.read_bytes().startswith(magic)
    assert list(tmp_path.iterdir()) == [path]


def test_an_image_that_cannot_be_drawn_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(b"old")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="full"):
        write_image(Figure(), str(path))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_image_that_has_no_place_is_told_of_by_its_name(tmp_path: Path) -> None:
    path = str(tmp_path / "none" / "p.png")
    with pytest.raises(FileNotFoundError) as caught:
        write_image(Figure(), path)
    assert caught.value.filename == path
    (tmp_path / "p.png").mkdir()
    with pytest.raises(IsADirectoryError) as is_directory:
        write_image(Figure(), str(tmp_path / "p.png"))
    assert (is_directory.value.filename, is_directory.value.filename2) == (str(tmp_path / "p.png"), None)


def test_an_image_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf"):
        write_image(Figure(), str(tmp_path / "p.bmp"))


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'torch-sucrose\[plot\]'"):
        plot_evolution(TWO)

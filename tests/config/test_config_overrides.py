"""Fields given beside the file, by argument and by environment."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sucrose.config import Config, parse_config
from sucrose.errors import ConfigError, UnknownFieldError

TEXT = """
base: {model: {dim: 100, name: 'd${model.dim}'}, optim: {lr: 0.1, betas: [0.9, 0.99]}, color: red}
base/case1: {model.dim: 200}
"""


def config(*overrides: str) -> Config:
    return Config(parse_config(TEXT, "config.yaml"), "base/case1", overrides)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUCROSE_OVERRIDES", raising=False)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        ("7", 7),
        (" 7 ", 7),
        ("true", True),
        ("null", None),
        ("", ""),
        ("blue", "blue"),
        ("#fff", "#fff"),
        ("a: b", "a: b"),
        ("a=b", "a=b"),
        ("*x", "*x"),
        ("'7'", "7"),
        ('"a\\tb"', "a\tb"),
        ("[1, [2.5, x], {k: 1e-3}]", [1, [2.5, "x"], {"k": 1e-3}]),
        ("{}", {}),
        ("${model.dim}", 200),
        ("${model.name}/x", "d200/x"),
        ("-.inf", -math.inf),
    ],
)
def test_a_value_is_read_as_in_the_file(written: str, value: Any) -> None:
    found = config(f"color={written}")["color"]
    assert found == value
    assert type(found) is type(value)


def test_a_map_stands_for_the_fields_below() -> None:
    overridden = config("optim={lr: 1, betas: [0.5]}", "+new={a: {b: 1}, c.d: 2}")
    assert overridden["optim"] == {"lr": 1, "betas": [0.5]}
    assert overridden["new"] == {"a": {"b": 1}, "c": {"d": 2}}
    assert config("optim={lr: 1}")["optim.betas"] == [0.9, 0.99]


@pytest.mark.parametrize(
    "override",
    ["lr", "", "=1", "+=1", "~", "a..b=1", "color=[1", "color={a", "color='a", "color=[1], x: [2]",
     "color={a: 1, a: 2}",
     "color='a': 1", "color=[*x]", "color=[!!set x]", "color=1" + "0" * 2000, "color=" + "[" * 100 + "]" * 100, 3],
)  # fmt: skip
def test_what_is_no_override_is_refused_and_shown(override: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        config(override)
    assert not isinstance(caught.value, KeyError)
    assert repr(override) in str(caught.value)


def test_an_override_that_is_no_yaml_is_told_of_without_a_line_number() -> None:
    with pytest.raises(ConfigError, match=r"^the override 'optim.betas=\[1' by an argument: no YAML: "):
        config("optim.betas=[1")


def test_a_single_text_is_no_list_of_overrides() -> None:
    with pytest.raises(ConfigError, match="expected a list"):
        Config(parse_config(TEXT, "config.yaml"), "base", "optim.lr=1")


def test_an_unknown_field_is_refused_with_what_may_have_been_meant() -> None:
    with pytest.raises(UnknownFieldError) as caught:
        config("optim.lrr=1")
    assert (caught.value.key, caught.value.nearest) == ("optim.lrr", "optim.lr")
    assert "did you mean 'optim.lr'?, or write '+optim.lrr=1' to add" in str(caught.value)
    with pytest.raises(UnknownFieldError):
        config("~optim.lrr")
    with pytest.raises(ConfigError, match=r"'optim' is a group of fields; override those, such as 'optim\.lr'"):
        config("optim=1")


def test_a_plus_adds_a_field_and_a_tilde_removes_one_or_a_group() -> None:
    added = config("+optim.wd=0.1", "optim.wd=0.2", "+color=blue")
    assert (added["optim.wd"], added["color"]) == (0.2, "blue")
    removed = config("~optim", "~color")
    assert list(removed) == ["model.dim", "model.name"]
    with pytest.raises(UnknownFieldError, match="the override '~optim' has removed it"):
        removed["optim.lr"]
    assert "optim" not in removed
    assert config("~optim.lr")["optim"] == {"betas": [0.9, 0.99]}
    assert config("~color", "+color=blue")["color"] == "blue"


def test_the_environment_wins_over_arguments_and_a_later_one_over_an_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUCROSE_OVERRIDES", "optim.lr=3 'color=a b' +x=\"\"")
    both = config("optim.lr=1", "optim.lr=2", "model.dim=5")
    assert (both["optim.lr"], both["color"], both["x"], both["model.name"]) == (3, "a b", "", "d5")
    assert both.explain("optim.lr").override_source == "SUCROSE_OVERRIDES"
    assert both.explain("model.dim").override_source == "argument"
    monkeypatch.setenv("SUCROSE_OVERRIDES", "'optim.lr=3")
    with pytest.raises(ConfigError, match=r"SUCROSE_OVERRIDES=.*quot"):
        config()
    monkeypatch.setenv("SUCROSE_OVERRIDES", "optim.lrr=3")
    with pytest.raises(UnknownFieldError):
        config()


@pytest.mark.parametrize(
    ("given", "in_force"),
    [
        ([], ()),
        (["optim.lr=1e-3"], ("optim.lr=1e-3",)),
        (["optim.lr=1", "optim.lr=2"], ("optim.lr=2",)),
        (["+a=1", "a=2"], ("+a=2",)),
        (["+color= blue"], ("color=blue",)),
        (["+a=1", "~a"], ()),
        (["~optim"], ("~optim.lr", "~optim.betas")),
        (["~color", "+color=x"], ("color=x",)),
        (["+model=x", "~model"], ("~model.name", "~model.dim")),
        (["optim={lr: .inf, betas: ['.inf', .nan]}"], ("optim.lr=.inf", 'optim.betas=[".inf", .nan]')),
        (["color=${model.dim}", "model.dim=3"], ("color=${model.dim}", "model.dim=3")),
    ],
)
def test_overrides_in_force_have_the_same_effect_when_given_again(given: list[str], in_force: tuple[str, ...]) -> None:
    first = config(*given)
    assert sorted(first.overrides) == sorted(in_force)
    again = config(*first.overrides)
    assert again.resolved() == first.resolved()
    assert again.overrides == first.overrides


def test_a_word_that_yaml_1_1_reads_otherwise_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    assert config("color=no")["color"] == "no"
    assert "the override 'color=no'" in caplog.text

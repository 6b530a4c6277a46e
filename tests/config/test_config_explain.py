"""Where values come from, which fields had no effect, and what has changed."""

from __future__ import annotations

import json

import pytest

from sucrose.config import MISSING, Config, Difference, differences, parse_config
from sucrose.errors import UnknownFieldError

TEXT = """
base:
  model.dim: 100
  model.name: d${model.dim}
  optim: {lr: 0.1, clip: .inf}
base/case1:
  model.dim: 200
  data: ['${env:DATA,here}', '${optim}']
base/case1/a:
  model.dim: 300
"""


def config(name: str, *overrides: str) -> Config:
    return Config(parse_config(TEXT, "config.yaml"), name, overrides)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUCROSE_OVERRIDES", raising=False)


def test_an_explanation_says_where_a_value_is_from_and_what_it_hides() -> None:
    found = config("base/case1/a").explain("model.dim")
    assert (found.value, found.domain, found.path, found.line, found.override) == (
        300, "base/case1/a", "config.yaml", 10, None,
    )  # fmt: skip
    assert [(other.domain, other.value, other.line) for other in found.shadowed] == [
        ("base/case1", 200, 7),
        ("base", 100, 3),
    ]
    assert str(found).splitlines() == [
        "model.dim = 300",
        "  from config.yaml:10, domain 'base/case1/a'",
        "  instead of 200 from config.yaml:7, domain 'base/case1'",
        "  instead of 100 from config.yaml:3, domain 'base'",
    ]


def test_an_explanation_says_what_a_value_refers_to() -> None:
    found = config("base/case1").explain("model.name")
    assert (found.value, found.raw, found.line) == ("d200", "d${model.dim}", 4)
    [reference] = found.references
    assert reference.definition is not None
    assert (reference.name, reference.value, reference.definition.line) == ("model.dim", 200, 7)
    assert "  model.dim = 200, from config.yaml:7, domain 'base/case1'" in str(found)
    names = [reference.name for reference in config("base/case1").explain("data").references]
    assert names == ["env:DATA,here", "optim"]


def test_an_explanation_says_which_override_holds() -> None:
    found = config("base/case1", "model.dim=7", "+new='x'").explain("model.dim")
    assert (found.value, found.override, found.override_source) == (7, "model.dim=7", "argument")
    assert (found.domain, found.line) == (None, None)
    assert [other.value for other in found.shadowed] == [200, 100]
    assert "from the override 'model.dim=7' by an argument" in str(found)


def test_only_fields_are_explained() -> None:
    with pytest.raises(UnknownFieldError, match=r"'model' is a group; its fields are model\.dim, model\.name"):
        config("base").explain("model")
    with pytest.raises(UnknownFieldError, match=r"did you mean 'model\.dim'"):
        config("base").explain("model.dmi")
    linked = Config(parse_config("base: {a.x: 1, b: '${a}'}", "config.yaml"), "base")
    with pytest.raises(UnknownFieldError, match="explain 'b'"):
        linked.explain("b.x")


def test_a_resolved_configuration_is_flat_and_survives_json() -> None:
    resolved = config("base/case1", "+new=[1, .nan]").resolved()
    assert list(resolved.items()) == [
        ("model.dim", 200),
        ("model.name", "d200"),
        ("optim.lr", 0.1),
        ("optim.clip", ".inf"),
        ("data", ["here", {"lr": 0.1, "clip": ".inf"}]),
        ("new", [1, ".nan"]),
    ]
    assert json.loads(json.dumps(resolved, allow_nan=False)) == resolved


def test_fields_that_nothing_used_are_told_with_what_was_asked_for() -> None:
    used = config("base/case1", "+optim.lrr=3")
    assert used["model.name"] == "d200"  # and so model.dim
    assert used["optim.clip"] > 0
    assert used.get("dta", 3) == 3
    used.partial(lambda lr: lr, "optim")
    used.explain("data")
    used.resolved()
    assert [(unused.field, unused.nearest) for unused in used.unused()] == [("data", "dta"), ("optim.lrr", "optim.lr")]
    data, override = used.unused()
    assert str(data) == "'data' (config.yaml:8, domain 'base/case1') is used by nothing; did you mean 'dta'?"
    assert override.origin.override == "+optim.lrr=3"
    assert used["data"]  # and so the group that it refers to
    assert used.unused() == []


def test_a_prefix_uses_all_fields_below_it() -> None:
    used = config("base")
    assert used["model"]
    assert [unused.field for unused in used.unused()] == ["optim.lr", "optim.clip"]


def test_differences_are_told_field_by_field() -> None:
    saved = {"same": 1, "number": 1, "lr": 0.1, "gone": "x", "flag": 1, "list": [1, [2]], "nan": ".nan"}
    now = {"same": 1, "number": 1.0, "lr": 0.2, "new": None, "flag": True, "list": [1, [3]], "nan": float("nan")}
    found = differences(saved, now)
    assert found == [
        Difference("flag", 1, True),
        Difference("gone", "x", MISSING),
        Difference("list", [1, [2]], [1, [3]]),
        Difference("lr", 0.1, 0.2),
        Difference("new", MISSING, None),
    ]
    assert [str(difference) for difference in found] == [
        "flag: 1 -> true",
        'gone: "x" -> not set',
        "list: [1, [2]] -> [1, [3]]",
        "lr: 0.1 -> 0.2",
        "new: not set -> null",
    ]
    assert differences({"a": {"x": 1}}, {"a": {"x": 1.0}}) == []
    assert differences({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}) != []

"""Configurations against a simple model of them, and against arbitrary texts."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sucrose.config import Config, differences, nodes, parse_config
from sucrose.config.overrides import parse_override
from sucrose.config.plain_values import flow_text
from sucrose.config.templates import parse_template
from sucrose.errors import ConfigError

NAMES = st.sampled_from(["a", "b", "lr", "dim", "1", "x y", "λ", "null"])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="$"), max_size=5),
    st.sampled_from(["yes", "1e3", "null", "~", "", "#", "[", "- a", "a: b", "0x1"]),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
TREES = st.recursive(
    st.dictionaries(NAMES, VALUES, max_size=4),
    lambda inner: st.dictionaries(NAMES, st.one_of(VALUES, inner), max_size=4),
    max_leaves=8,
)
DOMAINS = ("base", "base/case", "base/case/fast")


@pytest.fixture(autouse=True, scope="module")
def no_environment() -> None:
    os.environ.pop("SUCROSE_OVERRIDES", None)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The model of flattening: a non-empty map is its fields, everything else a value."""
    fields = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            fields.update(flat(value, f"{prefix}{name}."))
        else:
            fields[prefix + name] = value
    return fields


@settings(max_examples=100, deadline=None)
@given(tree=TREES)
def test_a_tree_has_the_same_fields_nested_dotted_and_as_json(tree: dict[str, Any]) -> None:
    expected = flat(tree)
    for form in (tree, expected):
        fields = parse_config(f"base: {flow_text(form)}", "config.yaml").domains["base"]
        found = {name: field.value for name, field in fields.items()}
        assert flow_text(found) == flow_text(expected)


@settings(max_examples=100, deadline=None)
@given(trees=st.lists(TREES, min_size=3, max_size=3))
def test_the_nearest_domain_with_a_field_has_its_value(trees: list[dict[str, Any]]) -> None:
    text = "\n".join(f"{domain}: {flow_text(tree)}" for domain, tree in zip(DOMAINS, trees, strict=True))
    config = Config(parse_config(text, "config.yaml"), DOMAINS[-1])
    expected: dict[str, Any] = {}
    for tree in trees:
        expected.update(flat(tree))
    assert set(config) == set(expected)
    for field, value in expected.items():
        groups = [name for name in expected if name.startswith(f"{field}.")]
        if not groups:  # a value and a group at once are looked at elsewhere
            assert flow_text(config[field]) == flow_text(value)
            assert config.explain(field).domain == next(
                domain for domain, tree in zip(DOMAINS[::-1], trees[::-1], strict=True) if field in flat(tree)
            )


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_references_are_what_they_refer_to_in_the_scenario_that_asks(data: st.DataObject) -> None:
    """The model: every field refers to earlier ones only, and is computed in that order."""
    text = {domain: f"{domain}:\n" for domain in DOMAINS}
    expected: dict[str, Any] = {}
    for index in range(data.draw(st.integers(1, 6))):
        single = [field for field, value in expected.items() if not isinstance(value, list)]
        several = data.draw(st.lists(st.sampled_from(single), min_size=2, max_size=3)) if single else []
        one = data.draw(st.sampled_from([*expected, ""])) if expected else ""
        if one:
            line, value = f"${{{one}}}", expected[one]
        elif several:
            parts = [expected[field] for field in several]
            line = "-".join(f"${{{field}}}" for field in several)
            value = "-".join(part if isinstance(part, str) else flow_text(part) for part in parts)
        else:
            value = line = data.draw(VALUES)
        nearest = data.draw(st.integers(0, 2))
        for level, domain in enumerate(DOMAINS[: nearest + 1]):
            text[domain] += f"  g.f{index}: {flow_text(line) if level == nearest else 'hidden'}\n"
        expected[f"g.f{index}"] = value
    config = Config(parse_config("".join(text.values()), "config.yaml"), DOMAINS[-1])
    for field, value in expected.items():
        assert flow_text(config[field]) == flow_text(value)
    assert flow_text(config["g"]) == flow_text({field[2:]: value for field, value in expected.items()})


@settings(max_examples=100, deadline=None)
@given(tree=st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), overridden=VALUES)
def test_overrides_and_saved_configurations_come_back_as_they_were(tree: dict[str, Any], overridden: Any) -> None:
    file = parse_config(f"base: {flow_text(tree)}", "config.yaml")
    field = next(iter(tree))
    config = Config(file, "base", [f"{field}={flow_text(overridden)}"])
    assert flow_text(config[field]) == flow_text(overridden)
    assert Config(file, "base", config.overrides).resolved() == config.resolved()
    saved = json.loads(json.dumps(config.resolved(), allow_nan=False))
    assert differences(saved, config.resolved()) == []


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(), st.text("ab:{}[]&*!|>-'\"\\#%@`,?<~= \t\n0.x$/", max_size=60)))
def test_any_text_is_a_configuration_or_a_config_error(loader: str, text: str) -> None:
    before = nodes.LOADER
    nodes.LOADER = getattr(yaml, loader)
    try:
        for form in (text, f"base: {text}", f"base:\n  a: {text}", f"base: {{a: {text}}}"):
            try:
                file = parse_config(form, "config.yaml")
            except ConfigError:
                continue
            for domain in file.domains:
                if domain != "workspace":
                    resolve(Config(file, domain))
    finally:
        nodes.LOADER = before


def resolve(config: Config) -> None:
    try:
        json.dumps(config.resolved(), allow_nan=False)
    except ConfigError:
        return
    for field in config:
        assert str(config.explain(field)).startswith(f"{field} = ")


@settings(max_examples=300, deadline=None)
@given(text=st.text("a.=+~[]{}'\"${}:,1 \n", max_size=30))
def test_any_text_is_an_override_or_a_config_error(text: str) -> None:
    try:
        override = parse_override(text)
    except ConfigError:
        return
    assert override.values


@settings(max_examples=300, deadline=None)
@given(text=st.text("$${{}}ab", max_size=30))
def test_any_text_is_a_template_or_a_value_error(text: str) -> None:
    try:
        parts = parse_template(text)
    except ValueError:
        return
    if "$" not in text:
        assert "".join(map(str, parts)) == text

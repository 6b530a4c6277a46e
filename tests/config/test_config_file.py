"""What is read from `config.yaml`, and what is refused."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sucrose.config import nodes, parse_config, read_config_file
from sucrose.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def each_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With libyaml and without."""
    monkeypatch.setattr(nodes, "LOADER", getattr(yaml, request.param))


def fields_of(text: str, domain: str = "base") -> dict[str, Any]:
    return {field: found.value for field, found in parse_config(text, "config.yaml").domains[domain].items()}


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "config.yaml")
    assert caught.value.path == "config.yaml"
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-2.5e+3", -2500.0),
        ("-.inf", -math.inf),
        ("12", 12),
        ("-12", -12),
        ("010", 10),
        ("0o17", 15),
        ("0xff", 255),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("Null", None),
        ("yes", "yes"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-02", "2024-01-02"),
        ("1.2.3", "1.2.3"),
        ("nan", "nan"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("! 1", "1"),
        ("|\n    a\n    b\n", "a\nb\n"),
        ("[1, [2.0, x]]", [1, [2.0, "x"]]),
        ("{}", {}),
        ("[{a: {b.c: 1}}]", [{"a": {"b.c": 1}}]),
    ],
)
def test_words_mean_what_they_mean_in_yaml_1_2(word: str, value: Any) -> None:
    found = fields_of(f"base:\n  x: {word}\n")["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("word", ["no", "Yes", "on", "010", "1_000", "1_000.5"])
def test_a_word_that_yaml_1_1_reads_otherwise_is_warned_about(word: str, caplog: pytest.LogCaptureFixture) -> None:
    parse_config(f"base:\n  x: {word}\n", "config.yaml")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"config.yaml:2: {word} is read as" in record.getMessage()
    caplog.clear()
    parse_config(f"base:\n  x: '{word}'\n  {word}: 1\n", "config.yaml")
    assert not caplog.records


def test_nested_maps_and_dotted_fields_are_the_same_thing() -> None:
    nested = "base: {model: {encoder: {dim: 3}, dim: 4}, list: [{a: 1}]}"
    dotted = "base: {model.encoder.dim: 3, model.dim: 4, list: [{a: 1}]}"
    mixed = "base: {model: {encoder.dim: 3}, model.dim: 4, list: [{a: 1}]}"
    assert fields_of(nested) == fields_of(dotted) == fields_of(mixed)
    assert list(fields_of(nested)) == ["model.encoder.dim", "model.dim", "list"]


def test_fields_know_their_lines() -> None:
    text = "# comment\nbase:\n  model:\n    dim: 3\n\n    name: >\n      long\n  optim.lr:\n    1e-3\n"
    lines = {field: found.line for field, found in parse_config(text, "config.yaml").domains["base"].items()}
    assert lines == {"model.dim": 4, "model.name": 6, "optim.lr": 8}


def test_keys_are_names_as_they_are_written() -> None:
    assert fields_of("base: {1: a, true: b, 0x10: c, ~: d}") == {"1": "a", "true": "b", "0x10": "c", "~": "d"}
    assert list(parse_config("1: {a: 2}", "config.yaml").domains) == ["1"]


def test_an_empty_domain_and_an_empty_file_are_empty_mappings() -> None:
    assert fields_of("base:\n") == {}
    assert fields_of("base: {}\n") == {}
    for text in ("", "# nothing\n", "---\n", "{}"):
        assert parse_config(text, "config.yaml").domains == {}


@pytest.mark.parametrize(
    ("text", "field", "lines"),
    [
        ("base:\n  x: 1\n  y: 2\n  x: 1\n", "x", (4, 2)),
        ("base:\n  model.dim: 1\n  model:\n    dim: 2\n", "model.dim", (4, 2)),
        ("base:\n  a:\n    b.c: 1\n  a.b:\n    c: 2\n", "a.b.c", (5, 3)),
        ("base:\n  a: {x: 1}\n  a: {y: 1}\n", "a", (3, 2)),
        ("base:\n  x: 1\nother:\nbase:\n  y: 1\n", "base", (4, 1)),
        ("base:\n  x: [{a: 1,\n a: 2}]\n", "a", (3, 2)),
        ("base:\n  1: a\n  '1': b\n", "1", (3, 2)),
    ],
)
def test_what_stands_there_twice_is_refused_with_both_lines(text: str, field: str, lines: tuple[int, int]) -> None:
    told = refused(text)
    assert told.startswith(f"config.yaml:{lines[0]}: ")
    assert f"{field!r} stands there a second time, first in line {lines[1]}" in told


def test_aliases_and_merge_keys_work_and_what_is_written_out_wins() -> None:
    text = """
defaults: &defaults
  optim: {lr: 0.1, wd: 0.2, extra: {a: 1}}
more: &more {optim.lr: 7, data: &data [1, 2]}
base:
  <<: [*defaults, *more]
  optim.wd: 0.5
  optim.extra: null
  again: *data
  nested:
    <<: *defaults
    optim.lr: 3
"""
    assert fields_of(text) == {
        "optim.wd": 0.5,
        "optim.extra": None,
        "again": [1, 2],
        "nested.optim.lr": 3,
        "nested.optim.wd": 0.2,
        "nested.optim.extra.a": 1,
        "optim.lr": 0.1,
        "data": [1, 2],
    }
    assert parse_config(text, "config.yaml").domains["base"]["optim.lr"].line == 3
    assert fields_of("base: {'<<': 1}") == {"<<": 1}
    assert fields_of("x: &x {a: 1}\nbase: {l: [{<<: *x, b: 2}]}") == {"l": [{"a": 1, "b": 2}]}
    assert fields_of("template: &t {base: {a: 1}, other: {}}\n<<: *t\nother: {b: 1}") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- base\n", "config.yaml:1: expected domains with fields"),
        ("\nbase\n", "config.yaml:2: expected domains with fields"),
        ("a:\nbase: 3\n", "config.yaml:2: the domain 'base' is a single value"),
        ("base: [1]\n", "config.yaml:1: the domain 'base' is a list"),
        ("base: {a: [}\n", "config.yaml:1: no YAML: "),
        ("base:\n\tx: 1\n", "it begins with a tab, where only spaces can stand"),
        ("base:\n  x: [${y}, 1]\n", "a reference within brackets needs quotes"),
        ("base: {}\n---\nbase: {}\n", "config.yaml:2: a second document begins"),
        ("base:\n  x: !!python/name:os.system\n", "config.yaml:2: the tag "),
        ("base:\n  x: !!set {a, b}\n", "config.yaml:2: the tag "),
        ("base:\n  x: !!timestamp 2024-01-02\n", "config.yaml:2: the tag "),
        ("base:\n  x: !!int true\n", "has the tag !!int"),
        ("base:\n  x: *y\n", "config.yaml:2: "),
        ("base:\n  x: &y [1, *y]\n", "config.yaml:2: the alias *y stands inside of what it refers to"),
        ("base:\n  ? [1]\n  : 2\n", "config.yaml:2: a key is a list or a map"),
        ("base:\n  <<: 3\n", "config.yaml:2: '<<' merges maps"),
        ("base:\n  a..b: 3\n", "config.yaml:2: the field 'a..b' has an empty segment"),
        ("base:\n  .a: 3\n", "config.yaml:2: the field '.a' has an empty segment"),
        ("base:\n  a: {'': 3}\n", "config.yaml:2: the field 'a.' has an empty segment"),
        ("base:\n  a: 1" + "0" * 5000, "config.yaml:2: a whole number of 5001 digits"),
        ("base:\n  a: 0x1" + "0" * 5000, "config.yaml:2: a whole number of 5003 digits"),
        (
            "base: {" + "a" * 600 + ": {" + "b" * 600 + ": 1}}",
            "config.yaml:1: the name of a field has more",
        ),
        ('base: {a: "\\UFFFFFFFF"}', "no YAML: "),
        ("base: {a: \x00}", "no YAML: "),
        ("base: {a: \ud800}", "no YAML: "),
        ("base:\n  x: " + "[" * 2000, "config.yaml:2: nested deeper than 50 levels"),
        ("x: " + "{a: " * 2000, "config.yaml:1: nested deeper than 50 levels"),
        ("/base: {}\n", "config.yaml:1: a domain's name is '/base': it begins with '/'"),
        ("a:\nbase/: {}\n", "config.yaml:2: a domain's name is 'base/': it ends with '/'"),
        ("a//b: {}\n", "empty segment"),
        ("a/../b: {}\n", "begins with '.'"),
        ("'': {}\n", "empty"),
        ("workspace/a: {}\n", "the domain 'workspace' has no domains below it"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(text: str, told: str) -> None:
    assert told in refused(text)


def test_an_escaped_lone_surrogate_is_refused() -> None:
    refused('base: {a: "\\ud800"}')


@pytest.mark.parametrize("merge", ["[*l{0}, *l{0}, *l{0}, *l{0}]", "{{x: *l{0}, y: *l{0}}}"])
def test_aliases_that_expand_to_billions_of_values_are_refused_at_once(merge: str) -> None:
    levels = [f"  l{level}: &l{level} {merge.format(level - 1)}" for level in range(1, 40)]
    told = refused("base:\n  l0: &l0 lol\n" + "\n".join(levels))
    assert "more than 200000 values, aliases expanded" in told


def test_merge_keys_that_expand_to_billions_of_values_are_refused_at_once() -> None:
    levels = [f"d{level}: &d{level}\n  <<: [{', '.join([f'*d{level - 1}'] * 9)}]\n" for level in range(1, 12)]
    assert "aliases expanded" in refused("d0: &d0 {a: 1}\n" + "".join(levels))


def test_a_chain_of_aliases_cannot_nest_deeper_than_a_document_may() -> None:
    levels = [f"  l{level}: &l{level} [*l{level - 1}]\n" for level in range(1, 100)]
    assert "nested deeper than 50 levels, aliases expanded" in refused("base:\n  l0: &l0 [1]\n" + "".join(levels))


def test_without_a_file_the_error_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_config_file(tmp_path)
    assert caught.value.filename == str(tmp_path / "config.yaml")
    assert str(tmp_path / "config.yaml") in str(caught.value)
    with pytest.raises(FileNotFoundError, match="there is no such workspace"):
        read_config_file(tmp_path / "mistyped")


def test_a_file_may_begin_with_a_byte_order_mark_and_has_to_be_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("\ufeffbase: {name: λ}\n".encode())
    file = read_config_file(tmp_path)
    assert file.path == str(path)
    assert file.domains["base"]["name"].value == "λ"
    path.write_bytes(b"base:\n  x: \xff\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:2: a byte that is no UTF-8"):
        read_config_file(tmp_path)


def test_the_domain_of_settings_is_flat_and_its_references_are_resolved() -> None:
    text = "workspace: {keep: {last: 3, best.metric: loss}, ckpts_folder: 'c_${keep.last}'}\nbase: {x: 1}"
    assert parse_config(text, "config.yaml").workspace() == {
        "keep.last": 3,
        "keep.best.metric": "loss",
        "ckpts_folder": "c_3",
    }
    assert parse_config("base: {x: 1}", "config.yaml").workspace() == {}
    with pytest.raises(ConfigError, match="refers to 'x', which is no field"):
        parse_config("workspace: {a: '${x}'}\nbase: {x: 1}", "config.yaml").workspace()

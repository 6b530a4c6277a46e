"""Which value a field has: the nearest domain's, with references resolved."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from sucrose.config import Config, chain, parse_config
from sucrose.errors import ConfigError, UnknownFieldError

TEXT = """
workspace: {keep.last: 3}
base:
  model: {dim: 100, name: 'd${model.dim}', encoder: {dim: '${model.dim}', heads: 4}}
  model2.dim: 5
  optim.lr: 1e-3
base/case1:
  model.dim: 200
base/case1/fast:
  optim.lr: 1
base/case10:
  model.dim: 10
other:
  secret.field: 1
"""


def config(name: str, text: str = TEXT, *overrides: str) -> Config:
    return Config(parse_config(text, "config.yaml"), name, overrides)


def values(**fields: str) -> Config:
    lines = "".join(f"  {field.replace('__', '.')}: {value}\n" for field, value in fields.items())
    return config("base", f"base:\n{lines}")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUCROSE_OVERRIDES", raising=False)


def test_the_nearest_domain_wins() -> None:
    fast = config("base/case1/fast")
    assert fast.domains == ("base/case1/fast", "base/case1", "base")
    assert (fast["model.dim"], fast["optim.lr"], fast["model2.dim"]) == (200, 1, 5)
    assert config("base")["model.dim"] == 100


def test_a_prefix_is_a_map_of_whole_segments() -> None:
    case1 = config("base/case1")
    assert case1["model"] == {"dim": 200, "name": "d200", "encoder": {"dim": 200, "heads": 4}}
    assert case1["model.encoder"] == {"dim": 200, "heads": 4}
    with pytest.raises(UnknownFieldError):
        case1["mod"]


def test_a_scenario_needs_no_domain_of_its_own_but_one_above_it() -> None:
    assert config("base/case9/a")["model.dim"] == 100
    with pytest.raises(ConfigError, match="domains 'bose/case1', 'bose'; did you mean 'base/case1'") as caught:
        config("bose/case1")
    assert not isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    "name",
    ["", "/base", "base/", "base//a", "..", "base/../../etc", "base/.hidden", ".", "a\\b", "a\0b", "a\nb", " base"],
)
def test_a_name_that_is_no_path_below_the_workspace_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        config(name)


@pytest.mark.parametrize("name", ["workspace", "workspace/a", 3, None])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError):
        config(name)


def test_an_unknown_field_is_a_key_error_with_all_there_is_to_say() -> None:
    with pytest.raises(KeyError) as caught:
        config("base/case1")["model.dmi"]
    error = caught.value
    assert isinstance(error, UnknownFieldError)
    assert (error.key, error.domains, error.nearest) == ("model.dmi", ("base/case1", "base"), "model.dim")
    told = "no field 'model.dmi' in the domains 'base/case1', 'base' of config.yaml; did you mean 'model.dim'?"
    assert str(error) == told
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.domains) == (told, error.domains)


def test_a_field_may_be_meant_by_its_last_segments() -> None:
    with pytest.raises(UnknownFieldError, match=r"did you mean 'optim\.lr'"):
        config("base")["lr"]
    with pytest.raises(UnknownFieldError, match=r"domain 'other' has it \(config\.yaml:14\)"):
        config("base")["secret.field"]
    with pytest.raises(UnknownFieldError) as caught:
        config("base")["nothing like it"]
    assert caught.value.nearest is None
    for wrong in (3, None, ("model", "dim")):
        with pytest.raises(KeyError):
            config("base")[wrong]  # type: ignore[index]


def test_get_has_a_default_and_warns_once_of_a_near_miss(caplog: pytest.LogCaptureFixture) -> None:
    case1 = config("base/case1")
    assert case1.get("model.dim", 7) == 200
    assert case1.get("model.encoder") == {"dim": 200, "heads": 4}
    assert case1.get("zzz") is None
    assert not caplog.records
    assert case1.get("optim.lrr", 0.5) == 0.5
    assert case1.get("optim.lrr", 0.5) == 0.5
    [record] = caplog.records
    assert "did you mean 'optim.lr'?" in record.getMessage()


def test_get_does_not_take_a_broken_reference_for_a_missing_field() -> None:
    broken = values(a="${nowhere}")
    with pytest.raises(ConfigError, match="refers to 'nowhere'"):
        broken.get("a", 1)
    assert "a" in broken


def test_it_is_a_mapping_of_fields() -> None:
    case1 = config("base/case1")
    assert list(case1) == [
        "model.dim",
        "model.name",
        "model.encoder.dim",
        "model.encoder.heads",
        "model2.dim",
        "optim.lr",
    ]
    assert len(case1) == 6
    assert dict(case1)["model.name"] == "d200"
    assert "model" in case1
    assert "model.dmi" not in case1
    assert 3 not in case1


def test_values_are_fresh_copies() -> None:
    base = config("base", "base: {a: [1, {b: 2}], g.x: [1], m: {}}")
    base["a"][1]["b"] = 3
    base["g"]["x"].append(2)
    base["m"]["k"] = 1
    assert (base["a"], base["g"], base["m"]) == ([1, {"b": 2}], {"x": [1]}, {})


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${n}", 3),
        ("${f}", 1e-3),
        ("${b}", True),
        ("${l}", [1, 3]),
        ("'${g}'", {"x": 1, "y": "3"}),
        ("'${ n }'", 3),
        ("'n=${n}, f=${f}, b=${b}, z=${z}'", "n=3, f=0.001, b=true, z=null"),
        ("'${g.${which}}'", 1),
        ("'${g.${w${h}}}'", 1),
        ("['${n}', {k: '${b}'}]", [3, {"k": True}]),
        ("'$${n}'", "${n}"),
        ("'$${${n}'", "${3"),
        ("'$$${n}'", "$${n}"),
        ("'$n {n} $ }'", "$n {n} $ }"),
        ("'${q}'", "}{"),
    ],
)
def test_a_reference_keeps_the_type_alone_and_is_text_within_a_text(written: str, value: Any) -> None:
    base = values(
        n="3", f="1e-3", b="true", z="~", l="[1, '${n}']", which="x", which2="y", h="hich", q="'}{'", g__x="1",
        g__y="'${n}${e}'", e="''", value=written,
    )  # fmt: skip
    found = base["value"]
    assert found == value
    assert type(found) is type(value)


def test_references_see_what_the_asking_scenario_sees() -> None:
    assert config("base")["model.name"] == "d100"
    assert config("base/case1")["model.name"] == "d200"
    assert config("base/case1", TEXT, "model.dim=7")["model.encoder.dim"] == 7


def test_a_field_that_is_a_group_by_reference_has_the_groups_fields_and_its_own_over_them() -> None:
    base = config("base", "base: {a: {x: 1, y: {z: 2}}, b: '${a}', b.y.z: 3, b.w: 4, c: '${b}'}")
    assert base["b"] == {"x": 1, "y": {"z": 3}, "w": 4}
    assert (base["b.x"], base["b.y.z"], base["b.y"], base["c.y.z"]) == (1, 3, {"z": 3}, 3)
    with pytest.raises(UnknownFieldError):
        base["b.x.q"]
    with pytest.raises(UnknownFieldError):
        base["b.q"]


def test_variables_of_the_environment_are_read_like_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_NUMBER", "1e-3")
    monkeypatch.setenv("A_PATH", "/data: x")
    monkeypatch.setenv("NOTHING", "")
    base = values(
        a="${env:A_NUMBER}", b="'${env:A_PATH}/x'", c="'${env:NOT_SET,32}'", d="'${env:NOT_SET,}'", e="${env:NOT_SET}",
        f="${env:NOTHING}",
    )  # fmt: skip
    assert [base[field] for field in "abcdf"] == [1e-3, "/data: x/x", 32, "", ""]
    with pytest.raises(ConfigError, match=r"'e' \(config.yaml:6, domain 'base'\): the environment variable 'NOT_SET'"):
        base["e"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: ${b}\n  b: ${c}\n  c: ${a}", r"circle: a \(line 2\) -> b \(line 3\) -> c \(line 4\) -> a \(line 2\)"),
        ("a: x${a}", r"circle: a \(line 2\) -> a \(line 2\)"),
        ("a: ${g}\n  g.x: ${a}", r"a \(line 2\) -> g.x \(line 3\) -> a \(line 2\)"),
        ("g: ${g}", "circle"),
        ("a: ${modle.dim}\n  model.dim: 1", r"'a' \(config.yaml:2, .*refers to 'modle.dim'.*did you mean 'model.dim'"),
        ("a: '${b'\n  b: 1", r"'a' \(config.yaml:2.*is not closed"),
        ("a: '${}'", "without a name"),
        ("a: '${ }'", "refers to ''"),
        ("a: 'x${b}'\n  b: [1]", "a list or a group of fields stands within a text"),
        ("a: 'x${b}'\n  b.c: 1", "a list or a group of fields stands within a text"),
        ("a: '" + "${" * 30 + "b" + "}" * 30 + "'", "nested deeper than 10 levels"),
    ],
)
def test_a_reference_that_cannot_be_resolved_is_an_error_with_its_line(text: str, told: str) -> None:
    base = config("base", f"base:\n  {text}\n")
    with pytest.raises(ConfigError, match=told) as caught:
        base[next(iter(base))]
    assert not isinstance(caught.value, KeyError)


def test_a_long_chain_of_references_is_refused_and_not_a_recursion_error() -> None:
    lines = "".join(f"  a{index}: ${{a{index + 1}}}\n" for index in range(2000))
    base = config("base", f"base:\n{lines}  a2000: 1\n")
    assert base["a1980"] == 1
    with pytest.raises(ConfigError, match="deeper than"):
        base["a0"]


@pytest.mark.parametrize(
    "form", ["'${{a{0}}}${{a{0}}}'", "['${{a{0}}}', '${{a{0}}}']", "{{x: '${{a{0}}}', y: '${{a{0}}}'}}"]
)
@pytest.mark.parametrize("first", ["''", "lol"])
def test_references_that_grow_to_billions_of_values_are_refused_at_once(form: str, first: str) -> None:
    lines = "".join(f"  a{index}: {form.format(index - 1)}\n" for index in range(1, 28))
    base = config("base", f"base:\n  a0: {first}\n{lines}")
    with pytest.raises(ConfigError, match="larger than 200000"):
        base["a27"]


def test_a_field_and_a_field_below_it_are_two_fields_but_no_map() -> None:
    base = config("base", "base:\n  scheduler: cosine\n  scheduler.warmup: 10\n  model.net: a\n  model.net.dim: 1")
    assert (base["scheduler"], base["scheduler.warmup"]) == ("cosine", 10)
    assert base.partial(dict, "scheduler")() == {"warmup": 10}
    with pytest.raises(ConfigError, match=r"'model.net' \(config.yaml:4.*'model.net.dim' \(config.yaml:5"):
        base["model"]


def test_a_child_may_add_to_a_group_that_its_parent_has_left_empty() -> None:
    text = "base: {opt: {}}\nbase/a: {opt.lr: 1}\n"
    assert config("base", text)["opt"] == {}
    assert config("base/a", text)["opt"] == {"lr": 1}


def test_parents_are_cut_at_the_last_segment() -> None:
    assert chain("a/b/c") == ("a/b/c", "a/b", "a")

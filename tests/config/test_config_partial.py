"""Fields as keywords: of callables, of dataclasses, and what does not fit them."""

from __future__ import annotations

import enum
import functools
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from sucrose.config import Config, parse_config
from sucrose.errors import ConfigError


def config(text: str, name: str = "base") -> Config:
    return Config(parse_config(text, "config.yaml"), name)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUCROSE_OVERRIDES", raising=False)


class Net:
    def __init__(self, dim: int, depth: int = 2) -> None:
        self.given = (dim, depth)


class Child(Net):
    pass


class Made:
    def __new__(cls, *args: Any, **kwargs: Any) -> Made:  # noqa: PYI034  # typing has no Self before 3.11
        return super().__new__(cls)

    def __init__(self, dim: int) -> None:
        self.given = dim


class Called:
    def __call__(self, dim: int) -> int:
        return dim


def positional(dim: int, /, depth: int = 2) -> tuple[int, int]:
    return dim, depth


def positional_and_more(dim: int, /, **more: Any) -> tuple[int, dict[str, Any]]:
    return dim, more


def anything(**fields: Any) -> dict[str, Any]:
    return fields


TEXT = "base: {model.dim: 3, model.depth: 4, model2.dim: 9, modeldim: 8}\nbase/a: {model.dim: 5}\n"


def test_fields_below_the_prefix_are_keywords_and_the_nearest_domain_wins(caplog: pytest.LogCaptureFixture) -> None:
    assert config(TEXT).partial(Net, "model")().given == (3, 4)
    made = config(TEXT, "base/a").partial(Net, "model")
    assert isinstance(made, functools.partial)
    assert (made.func, made.args, made.keywords) == (Net, (), {"dim": 5, "depth": 4})
    assert made(depth=1).given == (5, 1)
    assert not caplog.records


@pytest.mark.parametrize(
    ("func", "accepted"),
    [
        (Net, {"dim", "depth"}),
        (Child, {"dim", "depth"}),
        (Made, {"dim"}),
        (Called(), {"dim"}),
        (anything, {"dim", "depth"}),
        (dict, {"dim", "depth"}),
        (positional, {"depth"}),
        (positional_and_more, {"dim", "depth"}),
        (functools.partial(Net, 7), {"depth"}),
        (functools.partial(Net, depth=7), {"dim", "depth"}),
        (functools.partial(anything, dim=7), {"dim", "depth"}),
        (lambda depth: depth, {"depth"}),
        (torch.nn.Linear, set()),
        (sorted, set()),
    ],
)
def test_what_a_callable_takes_is_given_and_the_rest_left_out_with_one_warning(
    func: Any, accepted: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    keywords = config(TEXT).partial(func, "model").keywords
    assert {name for name in ("dim", "depth") if keywords.get(name) in (3, 4)} == accepted
    left_out = {"dim", "depth"} - accepted
    assert len(caplog.records) == bool(left_out)
    for name in left_out:
        assert f"model.{name} (config.yaml:1, domain 'base')" in caplog.text


def test_a_field_left_out_is_named_with_what_may_have_been_meant(caplog: pytest.LogCaptureFixture) -> None:
    assert config("base: {model.dim: 1,\n model.dpth: 2}").partial(Net, "model")().given == (1, 2)
    [record] = caplog.records
    assert (
        record.getMessage() == "Net does not accept, so these fields are left out: "
        "model.dpth (config.yaml:2, domain 'base'); did you mean 'depth'?"
    )


def test_a_torch_module_and_optimizer_are_built_from_their_fields() -> None:
    made = config("base: {m: {in_features: 3, out_features: 2, bias: false}, o.lr: 1e-3, o.betas: [0.8, 0.9]}")
    model = made.partial(torch.nn.Linear, "m")()
    assert (model.weight.shape, model.bias) == ((2, 3), None)
    optimizer = made.partial(torch.optim.AdamW, "o")(model.parameters())
    assert optimizer.defaults["lr"] == 1e-3
    assert list(optimizer.defaults["betas"]) == [0.8, 0.9]


def test_a_nested_group_is_one_keyword_with_a_map() -> None:
    nested = config("base: {model: {encoder: {dim: 3, act.name: relu}, head.x: 1}, top: 2}")
    assert nested.partial(anything, "model")() == {"encoder": {"dim": 3, "act": {"name": "relu"}}, "head": {"x": 1}}
    assert nested.partial(anything, "model.encoder")() == {"dim": 3, "act": {"name": "relu"}}
    assert nested.partial(anything, "")() == {**nested.partial(dict, "")()} == {"model": nested["model"], "top": 2}


def test_a_group_by_reference_gives_keywords_too() -> None:
    text = "base: {a: {dim: 1, depth: 2}, b: '${a}', b.depth: 3}"
    assert config(text).partial(Net, "b")().given == (1, 3)


def test_values_that_are_left_out_are_not_even_resolved(caplog: pytest.LogCaptureFixture) -> None:
    assert config("base: {m.dim: 1, m.other: '${nowhere}'}").partial(Net, "m")().given == (1, 2)
    assert "m.other" in caplog.text


def test_a_prefix_that_was_mistyped_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    assert config(TEXT).partial(anything, "modle")() == {}
    assert "no field begins with 'modle.'" in caplog.text
    assert "did you mean 'model'?" in caplog.text
    caplog.clear()
    assert config(TEXT).partial(anything, "zzz")() == {}
    assert not caplog.records


def test_what_cannot_be_called_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="cannot be called"):
        config(TEXT).partial(3, "model")  # type: ignore[arg-type]


class Kind(enum.Enum):
    FAST = "fast"


@dataclass
class Encoder:
    dim: int
    kind: Kind = Kind.FAST


@dataclass(frozen=True, kw_only=True)
class Model:
    encoder: Encoder
    folder: Path = Path("/")
    rate: float = 0.5
    sizes: tuple[int, ...] = ()
    mode: Literal["a", "b"] = "a"
    maybe: Encoder | None = None
    stages: list[Encoder] = field(default_factory=list)
    free: Any = None
    number: int | float = 0
    scale: InitVar[float] = 1.0
    unknown: NoSuchType = None  # type: ignore[name-defined]  # noqa: F821
    made: int = field(init=False, default=3)

    def __post_init__(self, scale: float) -> None:
        if scale < 0:
            raise ValueError("scale has to be positive")


def test_a_dataclass_is_built_with_its_types_and_defaults() -> None:
    text = """
base:
  m: {encoder: {dim: 3}, folder: /data, rate: 1, sizes: [1, 2], maybe.dim: 4, maybe.kind: fast, scale: 2,
      stages: [{dim: 5}], free: {x: [1]}, number: 7, unknown: [anything]}
"""
    assert config(text).build(Model, "m") == Model(
        encoder=Encoder(3),
        folder=Path("/data"),
        rate=1.0,
        sizes=(1, 2),
        maybe=Encoder(4, Kind.FAST),
        stages=[Encoder(5)],
        free={"x": [1]},
        number=7,
        scale=2,
        unknown=["anything"],
    )
    assert type(config(text).build(Model, "m").rate) is float


def test_all_that_is_wrong_with_a_dataclass_is_told_at_once() -> None:
    text = """
base:
  m.encoder.dmi: 3
  m.rate: fast
  m.sizes: [1, x]
  m.mode: c
  m.maybe: 3
  m.made: 1
  m.number: true
  m.stages: [{dim: 1.5}]
  m.folder: ${nowhere}
"""
    with pytest.raises(ConfigError) as caught:
        config(text).build(Model, "m")
    told = str(caught.value)
    for expected in (
        "'base' does not fit Model:",
        "m.encoder.dmi (config.yaml:3, domain 'base'): Encoder does not accept it; did you mean 'dim'?",
        "m.encoder.dim: Encoder needs it",
        "m.rate (config.yaml:4, domain 'base'): expected float, found \"fast\"",
        "m.sizes (config.yaml:5, domain 'base'): expected int, found \"x\"",
        "m.mode (config.yaml:6",
        "m.maybe (config.yaml:7, domain 'base'): expected fields of Encoder or",
        "m.made (config.yaml:8, domain 'base'): Model does not accept it",
        "m.number (config.yaml:9, domain 'base'): expected int or float, found true",
        "m.stages[0].dim: expected int, found 1.5",
        "'m.folder' (config.yaml:11, domain 'base'): it refers to 'nowhere'",
    ):
        assert expected in told
    assert len(told.splitlines()) == 11


def test_a_field_that_is_missing_and_a_value_that_the_class_refuses_are_told() -> None:
    with pytest.raises(ConfigError, match=r"m\.encoder: Model needs it, and there is none"):
        config("base: {m.rate: 1}").build(Model, "m")
    with pytest.raises(ConfigError, match="m: Model refuses: scale has to be positive"):
        config("base: {m.encoder.dim: 1, m.scale: -1}").build(Model, "m")
    with pytest.raises(TypeError, match="no dataclass"):
        config("base: {m.dim: 1}").build(Net, "m")


@dataclass
class Adam:
    name: Literal["adam"]
    lr: float


@dataclass
class Sgd:
    name: Literal["sgd"]
    momentum: float = 0.0


@dataclass
class Training:
    optim: Adam | Sgd
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # nobody can change one
    dtype: torch.dtype | None = None
    drops: dict[int, float] = field(default_factory=dict)


def test_of_several_dataclasses_the_one_that_fits_is_built() -> None:
    built = config("base: {t.optim: {name: sgd, momentum: 1}}").build(Training, "t")
    assert built.optim == Sgd("sgd", 1.0)
    assert config("base: {t.optim: {name: adam, lr: 1}}").build(Training, "t").optim == Adam("adam", 1.0)
    with pytest.raises(ConfigError) as caught:
        config("base: {t.optim: {name: sgd, momentum: x}}").build(Training, "t")
    [_, told] = str(caught.value).splitlines()
    assert "t.optim.momentum" in told
    assert 'expected float, found "x"' in told


def test_devices_types_of_numbers_and_keys_of_maps_are_what_their_types_say() -> None:
    text = "base: {t: {optim.name: sgd, device: 'cuda:1', dtype: bfloat16, drops: {10: 1, 20: 0.5}}}"
    built = config(text).build(Training, "t")
    assert (built.device, built.dtype) == (torch.device("cuda", 1), torch.bfloat16)
    assert built.drops == {10: 1.0, 20: 0.5}
    with pytest.raises(ConfigError) as caught:
        config("base: {t: {optim.name: no, device: gpu, dtype: float33, drops: {x: 1}}}").build(Training, "t")
    told = str(caught.value)
    assert 'expected one of "sgd", found "no"' in told
    assert 'expected a device such as cpu or cuda:0, found "gpu"' in told
    assert 'torch.dtype or null, found "float33"' in told
    assert 'expected int, found "x"' in told


def loss(reduction: str = "mean", *, weight: float, classes: int | None = None) -> None: ...


def test_callables_are_checked_before_they_are_called() -> None:
    text = "base: {optim: {lr: 1e-3, betas: [0.9, 0.99]}, loss: {weight: 1}, model: {dim: 3, depth: 4}}"
    schema = {"optim": torch.optim.AdamW, "loss": loss, "model": Net, "absent": anything}
    config(text).check(schema, given=["optim.params"])
    wrong = "base: {optim: {lr: 1_0, beta: 1}, loss: {reduction: 3, classes: x}, model.dim: 1e3}"
    with pytest.raises(ConfigError) as caught:
        config(wrong).check(schema)
    told = str(caught.value)
    for expected in (
        "optim.lr (config.yaml:1, domain 'base'): expected ",
        "optim.beta (config.yaml:1, domain 'base'): AdamW does not accept it; did you mean 'betas'?",
        "optim.params: AdamW needs it",
        "loss.reduction (config.yaml:1, domain 'base'): expected str, found 3",
        "loss.classes (config.yaml:1, domain 'base'): expected int or null, found \"x\"",
        "loss.weight: loss needs it",
        "model.dim (config.yaml:1, domain 'base'): expected int, found 1000.0",
    ):
        assert expected in told


def test_checking_uses_no_field_and_building_does() -> None:
    checked = config("base: {model.dim: 3}")
    checked.check({"model": Encoder})
    assert [unused.field for unused in checked.unused()] == ["model.dim"]
    assert checked.build(Encoder, "model") == Encoder(3)
    assert checked.unused() == []

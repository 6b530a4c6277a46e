"""The configuration of one scenario."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sucrose.config.callables import keywords_of, name_of
from sucrose.config.explanation import Explanation, Referred, UnusedField
from sucrose.config.file import ConfigFile
from sucrose.config.flattening import above
from sucrose.config.layers import Layers
from sucrose.config.names import chain, check_scenario_name
from sucrose.config.overrides import all_overrides
from sucrose.config.plain_values import plain
from sucrose.config.references import References
from sucrose.config.schema import Schema
from sucrose.config.suggestions import did_you_mean, nearest
from sucrose.errors import ConfigError, UnknownFieldError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SLIP = 0.9
"""How similar two names are that differ by a slip of a key."""

_MAX_COMPARED = 300
"""Of more names, each with all others, a comparison would take seconds."""


class Config(Mapping[str, Any]):
    r"""The fields that a scenario has: those of its domain, of the domains above it, and the overrides.

    A field of a nearer domain holds, and so does ``${field}`` wherever it is written. A prefix, such as ``model``, is a
    name too: that of a map of the fields below it. Values are fresh copies. Iterating goes over the full names of
    fields. Which fields are used is noted; threads may share a configuration.

    Args:
        file: the domains.
        name: the scenario's. It needs no domain of its own if one above it has one.
        overrides: ``field=value``, ``+field=value`` for a new field, ``~field`` to remove one. Those of the environment
            variable `SUCROSE_OVERRIDES` come after them, and win.

    Attributes:
        name: the scenario's.
        domains: those that are searched, nearest first.

    Raises:
        ConfigError: the name is none, there is no such domain, or an override is malformed.
        UnknownFieldError: an override is of a field that is not there.

    Example:
        >>> from sucrose.config.file import parse_config
        >>> text = "base: {model.dim: 8, model.name: 'd${model.dim}'}\nbase/big: {model.dim: 64}"
        >>> config = Config(parse_config(text, "config.yaml"), "base/big")
        >>> config["model.dim"], config["model"]
        (64, {'dim': 64, 'name': 'd64'})
        >>> config.partial(dict, "model")()
        {'dim': 64, 'name': 'd64'}
    """

    name: str
    domains: tuple[str, ...]

    def __init__(self, file: ConfigFile, name: str, overrides: Sequence[str] = ()) -> None:
        check_scenario_name(name)
        self.name = name
        self.domains = chain(name)
        if not any(domain in file.domains for domain in self.domains):
            raise ConfigError(
                f"{file.path} has none of the domains {', '.join(map(repr, self.domains))}"
                f"{did_you_mean(name, file.domains)}",
                path=file.path,
                key=name,
            )
        self._file = file
        self._layers = Layers(
            file.path, self.domains, {domain: file.domains.get(domain, {}) for domain in self.domains}
        )
        for override in all_overrides(overrides, os.environ):
            self._layers.apply(override)
        self._used: set[str] = set()
        self._asked: set[str] = set()
        self._told: set[str] = set()

    def __getitem__(self, field: str) -> Any:
        """The value of a field, or a map of all fields below a prefix.

        Raises:
            UnknownFieldError: which is a `KeyError`; it names the field, the domains searched, and a near miss.
            ConfigError: a reference in the value cannot be resolved.
        """
        self._asked.add(field)
        try:
            return References(self._layers, on_field=self._used.add).value(self._checked(field))
        except ConfigError as error:
            elsewhere = self._elsewhere(field)
            if error.key == field and field not in self and elsewhere:
                error.args = (f"{error}; {elsewhere}",)
            raise

    def __contains__(self, field: object) -> bool:
        try:
            References(self._layers).value(self._checked(field))
        except KeyError:
            return False
        except ConfigError:
            return True  # it is there, and its reference leads nowhere
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._layers.definitions))

    def __len__(self) -> int:
        return len(self._layers.definitions)

    def __repr__(self) -> str:
        return f"<Config of {self.name!r}, {len(self)} fields from {self._file.path}>"

    def get(self, field: str, default: Any = None) -> Any:
        """As ``config[field]``, or `default` where there is no such field; a near miss is then warned about, once.

        Raises:
            ConfigError: a reference in the value cannot be resolved.
        """
        if field in self:
            return self[field]
        self._asked.add(field)
        self._tell_once(field, f"no field {field!r} for {self.name!r}, so its default is used", self._layers.names())
        return default

    def partial(self, func: Callable[..., T], prefix: str) -> functools.partial[T]:
        """As `functools.partial`, with the fields below a prefix as keywords.

        What follows the prefix is the keyword. Where that has dots, the keyword is what comes before the first one,
        and its value is a map. Names that `func` does not accept are left out, with one warning that names them.

        Args:
            func: a class, a function, or something else that can be called.
            prefix: whole segments: ``model`` is not that of ``model2.dim``. Empty: all fields.

        Raises:
            TypeError: `func` cannot be called.
            ConfigError: a reference in a value cannot be resolved.

        Example:
            >>> from sucrose.config.file import parse_config
            >>> config = Config(parse_config("base: {text.sep: '-', text.end: '!'}", "config.yaml"), "base")
            >>> config.partial(print, "text")("a", "b")
            a-b!
        """
        accepted = keywords_of(func)
        names = References(self._layers).names_in(prefix)
        self._asked.update(_joined(prefix, name) for name in accepted.parameters)
        if not names and prefix not in self:
            self._tell_once(prefix, f"no field begins with {prefix + '.'!r} for {self.name!r}", self._layers.names())
        keywords = {name: self[_joined(prefix, name)] for name in names if accepted.accepts(name)}
        left_out = [name for name in names if not accepted.accepts(name)]
        if left_out:
            told = ", ".join(
                f"{self._told_of(_joined(prefix, name))}{did_you_mean(name, accepted.parameters)}" for name in left_out
            )
            logger.warning("%s does not accept, so these fields are left out: %s", name_of(func), told)
        return functools.partial(func, **keywords)

    def build(self, cls: type[T], prefix: str) -> T:
        """An instance of a dataclass from the fields below a prefix, with their types checked.

        Whole numbers are taken for floats, lists for tuples, strings for paths and enumerations, and maps for nested
        dataclasses.

        Raises:
            ConfigError: all that is wrong, a line each: unknown fields, missing ones, and those of another type.
            TypeError: `cls` is no dataclass.

        Example:
            >>> from dataclasses import dataclass
            >>> from sucrose.config.file import parse_config
            >>> @dataclass
            ... class Optim:
            ...     lr: float
            ...     betas: tuple[float, float] = (0.9, 0.999)
            >>> config = Config(parse_config("base: {optim.lr: 1, optim.betas: [0.8, 0.9]}", "config.yaml"), "base")
            >>> config.build(Optim, "optim")
            Optim(lr=1.0, betas=(0.8, 0.9))
        """
        return Schema(self._layers, References(self._layers, on_field=self._used.add)).build(cls, prefix)

    def check(self, schema: Mapping[str, Callable[..., Any]], *, given: Iterable[str] = ()) -> None:
        """Checks fields against what will be called with them, before anything expensive happens.

        Args:
            schema: by prefix a dataclass, or a class or function as for `partial`, with the annotations it has.
            given: parameters that the program passes itself, such as ``optim.params``.

        Raises:
            ConfigError: all that is wrong, a line each: unknown fields, missing ones, and those of another type.

        Example:
            >>> from sucrose.config.file import parse_config
            >>> def optimizer(params: list, lr: float): ...
            >>> config = Config(parse_config("base: {optim.lrr: 0.1}", "config.yaml"), "base")
            >>> config.check({"optim": optimizer}, given=["optim.params"])
            Traceback (most recent call last):
            sucrose.errors.ConfigError: 'base' does not fit what is called with it:
              optim.lrr (config.yaml:1, domain 'base'): optimizer does not accept it; did you mean 'lr'?
              optim.lr: optimizer needs it, and there is none
        """
        Schema(self._layers, References(self._layers)).check(schema, frozenset(given))

    def explain(self, field: str) -> Explanation:
        """Where the value of a field comes from. The field does not count as used by that.

        Raises:
            UnknownFieldError: there is no such field; for a group of fields the message names them.
            ConfigError: a reference in the value cannot be resolved.
        """
        definition = self._layers.definitions.get(self._checked(field))
        if definition is None:
            raise self._inexplicable(field)
        in_file = self._layers.in_file(field)
        references = References(self._layers)
        return Explanation(
            field=field,
            value=references.value(field),
            definition=definition,
            shadowed=tuple(in_file if definition.override is not None else in_file[1:]),
            references=tuple(
                Referred(name=name, value=value, definition=self._layers.definitions.get(name))
                for name, value in references.mentioned(field)
            ),
        )

    def resolved(self) -> dict[str, Any]:
        """All fields with their values, flat, as JSON can hold them. They do not count as used by that.

        Raises:
            ConfigError: a reference cannot be resolved.
        """
        references = References(self._layers)
        return {field: plain(references.field(field)) for field in self._layers.definitions}

    @property
    def overrides(self) -> tuple[str, ...]:
        """The overrides that have an effect: given again to the same file, they have the same one."""
        return self._layers.overrides

    def unused(self) -> list[UnusedField]:
        """Fields that nothing has used so far; a field that a used one refers to is used."""
        missed = {name for name in self._asked if name not in self._layers.definitions}
        unused = [field for field in self._layers.definitions if field not in self._used]

        def meant(field: str) -> str | None:
            # Beside a used field only a slip of a key is meant: `input_dim` and `output_dim` are two things.
            return nearest(field, self._used, min_similarity=_SLIP) or nearest(field, missed)

        is_few = len(unused) <= _MAX_COMPARED
        return [
            UnusedField(field=field, origin=self._layers.definitions[field], nearest=meant(field) if is_few else None)
            for field in unused
        ]

    def _inexplicable(self, field: str) -> UnknownFieldError:
        error = self._layers.unknown(field)
        if self._layers.is_group(field):
            error.args = (f"{field!r} is a group; its fields are {', '.join(self._layers.below(field))}",)
        elif field in self:
            error.args = (f"{field!r} is a part of what another field refers to; explain {above(field)[0]!r}",)
        return error

    def _checked(self, field: object) -> str:
        if not isinstance(field, str):
            raise self._layers.unknown(str(field), f"{field!r} of type {type(field).__name__} is no name of a field: ")
        return field

    def _elsewhere(self, field: str) -> str:
        others = [
            f"domain {domain!r} has it ({self._file.path}:{fields[field].line}), and is none of these"
            for domain, fields in self._file.domains.items()
            if domain not in self.domains and field in fields
        ]
        return "" if not others else others[0]

    def _tell_once(self, name: str, problem: str, known: list[str]) -> None:
        hint = did_you_mean(name, known)
        if hint and name not in self._told:
            self._told.add(name)
            logger.warning("%s%s", problem, hint)

    def _told_of(self, name: str) -> str:
        """A keyword's fields, with where they stand."""
        fields = self._layers.below(name) if name not in self._layers.definitions else [name]
        places = (f"{field} ({self._layers.definitions[field].place})" for field in fields)
        return ", ".join(places) or name


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name

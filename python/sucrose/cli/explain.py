"""`sucrose explain`: what a scenario's configuration is, and where each value comes from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.cli.formatting import show_table, tell, write_json
from sucrose.config import Config, read_config_file
from sucrose.config.overrides import is_override
from sucrose.config.plain_values import plain, value_text
from sucrose.errors import ConfigError, UnknownFieldError

if TYPE_CHECKING:
    from sucrose.config import Definition, Explanation

_HEAD = ("field", "value", "domain", "line", "")


def explain(
    workspace: Annotated[str, typer.Argument(help="Folder with config.yaml.")],
    scenario: Annotated[str, typer.Argument(help="Its name, such as base/case1.")],
    field_and_overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="One field, or a group such as model; then overrides: FIELD=VALUE, +FIELD=VALUE, ~FIELD.",
            metavar="FIELD [OVERRIDES]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Shows the fields of a scenario with value, domain, line and override; of one field all there is to know."""
    words = field_and_overrides or []
    names = [word for word in words if not is_override(word)]
    if len(names) > 1:
        raise typer.BadParameter(f"{names[0]!r} and {names[1]!r} are two fields; an override is FIELD=VALUE")
    config = Config(read_config_file(workspace), scenario, [word for word in words if is_override(word)])
    fields = _fields(config, names[0] if names else "")
    if as_json:
        write_json(_content(workspace, config, fields))
    elif names == fields:
        tell_lines(str(config.explain(fields[0])))
    else:
        _show(config, fields)


def tell_lines(text: str) -> None:
    """Several lines on stdout."""
    for line in text.split("\n"):
        tell(line)


def _fields(config: Config, name: str) -> list[str]:
    """The field, or those of the group; all of them for the empty name."""
    if not name:
        return list(config)
    fields = [field for field in config if field == name or field.startswith(f"{name}.")]
    if not fields:
        config.explain(name)  # it says what is wrong with the name
    return fields


def _content(workspace: str, config: Config, fields: list[str]) -> dict[str, Any]:
    return {
        "workspace": os.path.abspath(workspace),
        "scenario": config.name,
        "domains": list(config.domains),
        "overrides": list(config.overrides),
        "fields": {field: _explained(config, field) for field in fields},
    }


def _explained(config: Config, field: str) -> dict[str, Any]:
    try:
        explanation = config.explain(field)
    except UnknownFieldError:
        raise
    except ConfigError as error:
        return {"problem": str(error)}
    return {
        "value": plain(explanation.value),
        **_definition(explanation.definition),
        "shadowed": [_definition(shadowed) for shadowed in explanation.shadowed],
        "references": {reference.name: plain(reference.value) for reference in explanation.references},
    }


def _definition(definition: Definition) -> dict[str, Any]:
    return {
        "written": plain(definition.value),
        "domain": definition.domain,
        "path": definition.path,
        "line": definition.line,
        "override": definition.override,
        "source": definition.source,
    }


def _show(config: Config, fields: list[str]) -> None:
    rows = []
    problems = []
    for field in fields:
        try:
            rows.append(_row(config.explain(field)))
        except ConfigError as error:
            problems.append(error)
            rows.append((field, "?", "", "", "cannot be resolved"))
    if rows:
        show_table([_HEAD, *rows], to_the_right=("line",))
    else:
        tell(f"no fields in {', '.join(config.domains)}")
    if problems:
        raise problems[0]


def _row(explanation: Explanation) -> tuple[str, ...]:
    notes = []
    if explanation.override is not None:
        notes.append(f"override {explanation.override!r} by {explanation.override_source}")
    elif explanation.references:
        notes.append(f"written as {value_text(explanation.raw)}")
    notes += [f"instead of {value_text(other.value)} in {other.domain}:{other.line}" for other in explanation.shadowed]
    line = "" if explanation.line is None else str(explanation.line)
    return explanation.field, value_text(explanation.value), explanation.domain or "", line, ", ".join(notes)

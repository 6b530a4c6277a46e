"""The configuration of a workspace as a tree of domains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sucrose.config import WORKSPACE, Config, chain
from sucrose.errors import ConfigError

if TYPE_CHECKING:
    from sucrose.config import ConfigFile
    from sucrose.scenarios.checkpoints import CheckpointInfo
    from sucrose.scenarios.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """One field as a domain sees it.

    Attributes:
        name: flat, with dots.
        value: as the file has it.
        resolved: with references put in, where that makes a difference.
        origin: the domain that it stands in.
        line: of the file.
        is_inherited: whether that is another domain than the one that looks.
        shadowed: what it would be without this definition; None where there is no other.
        overrides: what the newest checkpoint was made with instead, such as ``e10: optim.lr=1e-3``.
    """

    name: str
    value: str
    resolved: str | None = None
    origin: str
    line: int | None
    is_inherited: bool
    shadowed: str | None = None
    overrides: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class DomainNode:
    """A domain, or a name that only has domains below it.

    Attributes:
        name: the whole one.
        label: its last segment.
        is_defined: whether the file has such a domain.
        rows: its fields; inherited ones after its own.
        other_overrides: of fields that the domain has not.
        problem: why the domain cannot be used; empty where it can.
        children: domains right below it.
    """

    name: str
    label: str
    is_defined: bool = False
    rows: list[FieldRow] = field(default_factory=list)
    other_overrides: tuple[str, ...] = ()
    problem: str = ""
    children: list[DomainNode] = field(default_factory=list)


def config_tree(workspace: Workspace, checkpoints: Mapping[str, Sequence[CheckpointInfo]]) -> list[DomainNode]:
    """Domains at the top, in the order of the file; the settings of the workspace come first.

    Args:
        workspace: whose file it is.
        checkpoints: of scenarios, oldest first.
    """
    file = workspace.config
    roots: list[DomainNode] = []
    nodes: dict[str, DomainNode] = {}
    for name in file.domains:
        siblings = roots
        for depth, label in enumerate(segments := name.split("/"), start=1):
            prefix = "/".join(segments[:depth])
            if prefix not in nodes:
                nodes[prefix] = DomainNode(name=prefix, label=label)
                siblings.append(nodes[prefix])
            siblings = nodes[prefix].children
        _fill(nodes[name], file, checkpoints.get(name, ()))
    return sorted(roots, key=lambda node: node.name != WORKSPACE)


def _fill(node: DomainNode, file: ConfigFile, checkpoints: Sequence[CheckpointInfo]) -> None:
    node.is_defined = True
    resolved: dict[str, Any] = {}
    if node.name != WORKSPACE:
        try:
            resolved = Config(file, node.name).resolved()
        except ConfigError as error:
            node.problem = str(error)
    domains = [domain for domain in chain(node.name) if domain in file.domains]
    overrides = _overrides(checkpoints)
    names = sorted({name for domain in domains for name in file.domains[domain]})
    rows = [_row(file, node.name, domains, name, resolved, overrides.pop(name, ())) for name in names]
    node.rows = sorted(rows, key=lambda row: row.is_inherited)
    node.other_overrides = tuple(text for texts in overrides.values() for text in texts)


def _row(
    file: ConfigFile,
    owner: str,
    domains: Sequence[str],
    name: str,
    resolved: Mapping[str, Any],
    overrides: tuple[str, ...],
) -> FieldRow:
    origin, *shadowed = [domain for domain in domains if name in file.domains[domain]]
    definition = file.domains[origin][name]
    value = value_text(definition.value)
    final = value_text(resolved[name]) if name in resolved else value
    return FieldRow(
        name=name,
        value=value,
        resolved=None if final == value else final,
        origin=origin,
        line=definition.line,
        is_inherited=origin != owner,
        shadowed=value_text(file.domains[shadowed[0]][name].value) if shadowed else None,
        overrides=overrides,
    )


def value_text(value: object) -> str:
    """A value on one line, about as YAML has it.

    Example:
        >>> value_text("adam"), value_text([1, None]), value_text("1")
        ('adam', '[1, null]', '"1"')
    """
    if isinstance(value, str) and not _looks_like_another_type(value):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # a date, for example
        return str(value)


def _looks_like_another_type(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return not text
    return True


def _overrides(checkpoints: Sequence[CheckpointInfo]) -> dict[str, tuple[str, ...]]:
    """By field, of the newest checkpoint that tells."""
    record = next((info.record for info in reversed(checkpoints) if info.record is not None), None)
    if record is None:
        return {}
    marked: dict[str, tuple[str, ...]] = {}
    for override in record.overrides:
        name = override.partition("=")[0].lstrip("+~")
        marked[name] = (*marked.get(name, ()), f"e{record.epoch}: {override}")
    return marked

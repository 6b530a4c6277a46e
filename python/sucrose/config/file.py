"""The file `config.yaml` of a workspace."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sucrose.config.flattening import Field, flatten, key_text, merged_maps, unique_pairs
from sucrose.config.layers import Layers
from sucrose.config.names import WORKSPACE, check_name
from sucrose.config.nodes import Document, MapNode, Node, ScalarNode
from sucrose.config.references import References
from sucrose.errors import ConfigError

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """All domains of a file, each with its own fields only: what they take from their parents is `Config`'s business.

    Attributes:
        path: of the file.
        domains: fields by the name of their domain; names are flat, with dots.
    """

    path: str
    domains: Mapping[str, Mapping[str, Field]]

    def workspace(self) -> dict[str, Any]:
        """The settings in the domain `workspace`, flat, with references among them resolved; empty if there is none.

        Raises:
            ConfigError: a reference cannot be resolved.
        """
        layers = Layers(self.path, (WORKSPACE,), {WORKSPACE: self.domains.get(WORKSPACE, {})})
        return {field: References(layers).value(field) for field in layers.definitions}


def read_config_file(work_dir: str | os.PathLike[str]) -> ConfigFile:
    """Reads ``<work_dir>/config.yaml``.

    Plain words mean what they mean in YAML 1.2 (``1e-3`` is a number, ``yes`` a string), nested maps and dotted
    fields are the same thing, and whatever stands there twice is refused.

    Args:
        work_dir: the workspace.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it is no mapping of domains to fields; the message has file and line.

    Example:
        >>> import os, tempfile
        >>> work_dir = tempfile.mkdtemp()
        >>> with open(os.path.join(work_dir, "config.yaml"), "w") as file:
        ...     _ = file.write("base: {model: {dim: 100}, optim.lr: 1e-3}")
        >>> {field: value.value for field, value in read_config_file(work_dir).domains["base"].items()}
        {'model.dim': 100, 'optim.lr': 0.001}
    """
    path = os.path.join(os.fspath(work_dir), CONFIG_FILE)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        problem = "the workspace has no configuration file" if os.path.isdir(work_dir) else "there is no such workspace"
        raise FileNotFoundError(errno.ENOENT, problem, path) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: a byte that is no UTF-8; save the file as UTF-8", path=path) from None
    return parse_config(text, path)


def parse_config(text: str, path: str) -> ConfigFile:
    """The domains in a text.

    Args:
        text: the YAML document.
        path: where it comes from, for messages.

    Raises:
        ConfigError: as for `read_config_file`.
    """
    root = Document(text, path).compose()
    if root is None or _is_null(root):
        return ConfigFile(path, {})
    if not isinstance(root, MapNode):
        raise ConfigError(
            f"{path}:{root.line}: expected domains with fields, such as 'base: {{optim.lr: 0.01}}', "
            f"found {'a single value' if isinstance(root, ScalarNode) else 'a list'}",
            path=path,
        )
    return ConfigFile(path, _domains(root, path))


def _domains(root: MapNode, path: str) -> dict[str, dict[str, Field]]:
    domains = {name: _domain(name, key, value, path) for name, key, value in unique_pairs(root, path)}
    for merged in merged_maps(root, path):
        for name, fields in _domains(merged, path).items():
            domains.setdefault(name, fields)
    return domains


def _domain(name: str, key: Node, value: Node, path: str) -> dict[str, Field]:
    check_name(name, f"{path}:{key.line}: a domain's name", path)
    if name.startswith(f"{WORKSPACE}/"):
        raise ConfigError(f"{path}:{key.line}: the domain {WORKSPACE!r} has no domains below it", path=path)
    if _is_null(value):
        return {}
    if not isinstance(value, MapNode):
        raise ConfigError(
            f"{path}:{key.line}: the domain {key_text(key, path)!r} is "
            f"{'a list' if not isinstance(value, ScalarNode) else 'a single value'}; "
            "expected fields, such as 'optim.lr: 0.01', or nothing",
            path=path,
        )
    return flatten(value, path)


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value is None

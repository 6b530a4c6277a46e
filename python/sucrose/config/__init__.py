"""Configurations of scenarios: what each field is, where it comes from, and which ones nothing used."""

from __future__ import annotations

from sucrose.config.config import Config
from sucrose.config.differences import MISSING, Difference, differences
from sucrose.config.explanation import Explanation, Referred, UnusedField
from sucrose.config.file import CONFIG_FILE, ConfigFile, parse_config, read_config_file
from sucrose.config.flattening import Field
from sucrose.config.layers import Definition
from sucrose.config.names import WORKSPACE, chain, check_name, check_scenario_name
from sucrose.config.overrides import OVERRIDES, SCENARIO

__all__ = [
    "CONFIG_FILE",
    "MISSING",
    "OVERRIDES",
    "SCENARIO",
    "WORKSPACE",
    "Config",
    "ConfigFile",
    "Definition",
    "Difference",
    "Explanation",
    "Field",
    "Referred",
    "UnusedField",
    "chain",
    "check_name",
    "check_scenario_name",
    "differences",
    "parse_config",
    "read_config_file",
]

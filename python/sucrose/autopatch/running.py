"""Running a script or a module as Python itself would.

Not by `runpy`: that ends the main module before exit handlers run, and they have to find its classes.
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType


def run_script(path: str, arguments: list[str]) -> None:
    """``python path argument ...``."""
    full_path = os.path.abspath(path)
    try:
        with io.open_code(full_path) as file:
            source = file.read()
    except OSError as error:
        sys.exit(f"python -m sucrose.autopatch: can't open {path!r}: {error.strerror}")
    sys.argv[:] = [path, *arguments]
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    main = ModuleType("__main__")
    main.__file__ = full_path
    main.__loader__ = SourceFileLoader("__main__", full_path)
    _run(main, compile(source, full_path, "exec", dont_inherit=True))


def run_module(name: str, arguments: list[str]) -> None:
    """``python -m name argument ...``."""
    sys.path[0] = os.getcwd()
    spec, code = _code_of(name)
    sys.argv[:] = [spec.origin or name, *arguments]
    main = ModuleType("__main__")
    main.__file__ = spec.origin
    main.__spec__ = spec
    main.__package__ = spec.parent
    main.__loader__ = spec.loader
    _run(main, code)


def _code_of(name: str) -> tuple[ModuleSpec, CodeType]:
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ImportError as error:
        sys.exit(f"python -m sucrose.autopatch: {error}")
    code = getattr(spec.loader, "get_code", lambda _: None)(spec.name) if spec is not None else None
    if spec is None or code is None:
        sys.exit(f"python -m sucrose.autopatch: no module named {name}, or nothing to run in it")
    return spec, code


def _run(main: ModuleType, code: CodeType) -> None:
    vars(main)["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    exec(code, vars(main))  # noqa: S102 - what this is for

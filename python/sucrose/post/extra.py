"""What only some installations have."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def require(module: str) -> Any:
    """Imports a module of the extra `plot`.

    Raises:
        ImportError: it is not installed; says how to install it.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != package:
            raise  # it is there, and broken
        raise ImportError(
            f"plots and data frames need {package}, which is not installed: pip install 'torch-sucrose[plot]'",
            name=package,
        ) from error

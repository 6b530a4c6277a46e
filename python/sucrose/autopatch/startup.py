"""Imported at Python's start by ``sucrose_autopatch.pth``, where ``LATTICE_AUTOPATCH`` is set.

Python prints what is raised here and goes on. A malformed value is therefore told where it matters, by the program's
``import torch``, and programs that have nothing to do with torch run as ever.
"""

from __future__ import annotations

import os
import sys

_VARIABLE = "LATTICE_AUTOPATCH"


def start() -> None:
    """Installs what the environment asks for."""
    try:
        from sucrose.autopatch.import_hook import when_imported

        asked = os.environ.get(_VARIABLE, "").strip().lower()
        if asked == "torch":
            from sucrose.autopatch.install import install

            install()
        elif asked:
            when_imported("torch", _refuse)
    except Exception as error:  # noqa: BLE001 - Python has to start
        sys.stderr.write(f"sucrose: {_VARIABLE} has no effect: {type(error).__name__}: {error}\n")


def _refuse() -> None:
    from sucrose.state.settings import Settings

    Settings.from_environment({_VARIABLE: os.environ.get(_VARIABLE, "")})


start()

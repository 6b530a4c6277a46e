"""``python -m sucrose.autopatch train.py [argument ...]``, or ``-m module`` in place of the script."""

from __future__ import annotations

import os
import sys

from sucrose.autopatch.install import install
from sucrose.autopatch.running import run_module, run_script

_USAGE = """\
usage: python -m sucrose.autopatch SCRIPT [ARGUMENT ...]
       python -m sucrose.autopatch -m MODULE [ARGUMENT ...]

Runs a training script that is resumed when it is started again after it was interrupted."""


def main(arguments: list[str]) -> None:
    """Runs what the arguments say, as the main program."""
    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(_USAGE + "\n")
        return
    is_module = arguments[:1] == ["-m"]
    if is_module:
        arguments = arguments[1:]
    if not arguments or arguments[0].startswith("-"):
        sys.exit(_USAGE)
    os.environ["LATTICE_AUTOPATCH"] = "torch"
    install()
    if is_module:
        run_module(arguments[0], arguments[1:])
    else:
        run_script(arguments[0], arguments[1:])


main(sys.argv[1:])

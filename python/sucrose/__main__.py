"""`python -m sucrose` is the command `sucrose`."""

from __future__ import annotations

from sucrose.cli.program import main

if __name__ == "__main__":
    main()

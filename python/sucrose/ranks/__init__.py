"""Who takes part in a collective call, and how they agree.

A collective call is one that all ranks of a process group make, such as taking a snapshot. `Ranks` says who they are,
`Exchange` is one such call: values go to rank 0 and from there to all, through the key-value store by which the group
was set up. The group itself is not used, so that a program may train on it while a save goes on in the background.
"""

from __future__ import annotations

from sucrose.ranks.exchange import Exchange as Exchange
from sucrose.ranks.ranks import Ranks as Ranks

__all__ = ["Exchange", "Ranks"]

"""Which process of a job this is."""

from __future__ import annotations

import os
import sys


def rank() -> int:
    """The rank in the job: of `torch.distributed` where that has been set up, else as `torchrun` tells it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    told = os.environ.get("RANK", "0")
    return int(told) if told.isdecimal() else 0

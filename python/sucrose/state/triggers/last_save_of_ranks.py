"""The last save of a program of several ranks.

Ranks come to their ends one after another, and each waits for the others, for `last_save_wait_s` at most; after
SIGTERM for a part of the grace. Where one does not come nothing is saved: what was saved before stays, and the
log says who was missing. That is no failure of this rank, which ends with the status that it has.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sucrose.errors import RankError
from sucrose.options import current_options
from sucrose.state.collective.occasion import Occasion
from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.reports import report, tell

if TYPE_CHECKING:
    from sucrose.state.saver import Saver

_PART_OF_GRACE = 0.6
"""What is left of it is for writing."""


def save_with_others(saver: Saver) -> bool:
    """Saves the states of all ranks; false where that has failed, which is reported.

    It is tried once: the other ranks know of one attempt.
    """
    limit_s = current_options().last_save_wait_s
    left_s = PROCESS.left_s()
    if left_s < math.inf:
        limit_s = min(limit_s, left_s * _PART_OF_GRACE)
    changes = saver.changes
    try:
        # A rank that stops by itself does so at the same step as the others: they come as well.
        saver.save(Occasion.END, limit_s=limit_s, calls=left_s < math.inf and not PROCESS.stops_by_itself)
    except RankError as error:
        if saver.has_stood_in or PROCESS.saved_changes is not None:
            tell(f"the states that were saved after SIGTERM are the last: {error}")
        else:
            report(
                f"the states are not saved: {error}; what was saved to {saver.checkpoints.where} before is untouched"
            )
    except Exception as error:  # noqa: BLE001 - the end of the program goes on
        report(
            f"saving the states to {saver.checkpoints.where} failed, earlier ones are untouched: "
            f"{type(error).__name__}: {error}"
        )
        return False
    else:
        PROCESS.saved_changes = changes
    return True

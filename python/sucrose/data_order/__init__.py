"""The order of a program's data: where its passes over loaders are, and how they are begun again.

Read in this order: `tracking` (what a program sees), `passes` and `counted_iterator` (what is known of a loader),
`place` (how that is written down), `restarting` and `skipping` (how a new run gets there), `random_states` and
`private_states` (the numbers it depends on).
"""

from __future__ import annotations

from sucrose.data_order.random_states import RandomStates as RandomStates
from sucrose.data_order.tracking import TrackedLoader as TrackedLoader
from sucrose.data_order.tracking import track_loader as track_loader

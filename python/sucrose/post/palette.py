"""Colours and strokes of curves."""

from __future__ import annotations

# Okabe and Ito's, told apart whatever colours one sees, without black and yellow: https://jfly.uni-koeln.de/color/
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# On and off, in widths of the line. Each one serves a whole round of colours.
DASHES = ((), (4.0, 1.5), (1.0, 1.2), (6.0, 1.5, 1.0, 1.5))

N_STYLES = len(COLOURS) * len(DASHES)
"""So many curves can be told apart."""


def style_of(index: int) -> tuple[str, tuple[float, ...]]:
    """Colour and dashes of the curve with this number."""
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]

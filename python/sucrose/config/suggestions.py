"""Which name somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection

_MIN_SIMILARITY = 0.65


def nearest(name: str, known: Collection[str], *, min_similarity: float = _MIN_SIMILARITY) -> str | None:
    """The known name that is most like `name`, or ends with it as with whole segments; None if none is.

    Example:
        >>> nearest("optim.lrr", ["optim.lr", "model.dim"]), nearest("lr", ["optim.lr"]), nearest("x", ["y"])
        ('optim.lr', 'optim.lr', None)
    """
    others = [other for other in known if other != name]
    similar = difflib.get_close_matches(name, others, n=1, cutoff=min_similarity)
    if similar:
        return similar[0]
    ending = [other for other in others if other.endswith(f".{name}")]
    return min(ending, key=len) if ending else None


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of a message; empty where nothing is near.

    Example:
        >>> did_you_mean("optim.lrr", ["optim.lr"])
        "; did you mean 'optim.lr'?"
    """
    near = nearest(name, known)
    return "" if near is None else f"; did you mean {near!r}?"

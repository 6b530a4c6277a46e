"""Errors that outlive the memory which their frames look at."""

from __future__ import annotations


def forget_frames(error: BaseException) -> None:
    """Lets go of what the error's frames hold: views of memory that is to be lent to others."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        at.__traceback__ = None
        at = at.__cause__ or at.__context__

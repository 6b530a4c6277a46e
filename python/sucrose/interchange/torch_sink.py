"""Writing a file of `torch.save`: whatever the source had, a pickle can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sucrose.snapshot.single_file import save

if TYPE_CHECKING:
    from sucrose.interchange.target import Target


def write_torch(tree: Any, target: Target) -> list[str]:
    """Writes `tree` as one object. Nothing is lost."""
    save(tree, target.path)
    return []

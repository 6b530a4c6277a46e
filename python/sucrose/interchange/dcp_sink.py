"""Writing a folder of `torch.distributed.checkpoint`, as one rank that has everything, without a process group."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from sucrose.engine import get_engine
from sucrose.errors import UnsupportedError
from sucrose.interchange.losses import empty_containers, gradient_notes, note, sharing_notes
from sucrose.interchange.target import VALUE_KEY
from sucrose.interchange.trees import is_container, leaves_of
from sucrose.storage import StagedDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sucrose.interchange.target import Target


def write_dcp(tree: Any, target: Target) -> list[str]:
    """Lets torch write the folder beside its place, and puts it there when everything is on the disk.

    Returns:
        What the format cannot hold.

    Raises:
        UnsupportedError: two values would have the same name.
    """
    state = tree if isinstance(tree, dict) and is_container(tree) else {VALUE_KEY: tree}
    staged = StagedDirectory(target.path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no process group
            try:
                save(state, storage_writer=FileSystemWriter(staged.root), no_dist=True)
            except ValueError as error:
                raise UnsupportedError(f"torch.distributed.checkpoint cannot hold this state: {error}") from error
        files = list(_files(staged.root))
        staged.commit(files, get_engine().sync, overwrite=target.overwrite)
    except BaseException:
        staged.discard()
        raise
    return _notes(tree, state)


def _files(root: str) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield os.path.join(folder, name)


def _notes(tree: Any, state: dict[Any, Any]) -> list[str]:
    leaves = leaves_of(state)
    notes = [] if state is tree else [f"the format holds dicts: what is in it is called {VALUE_KEY!r}"]
    notes += note(
        _keys_that_are_numbers(state), "dict has keys that are numbers: they become text",
        "dicts have keys that are numbers: they become text",
    )  # fmt: skip
    notes += note(
        empty_containers(leaves), "container is empty and may be left out", "containers are empty and may be left out"
    )
    tensors = {path: value for path, value in leaves.items() if isinstance(value, torch.Tensor)}
    return notes + sharing_notes(tensors, ties_survive=False) + gradient_notes(tensors)


def _keys_that_are_numbers(state: Any) -> list[str]:
    found = []
    waiting = [("", state)]
    while waiting:
        path, value = waiting.pop()
        if type(value) is list:
            waiting += [(f"{path}/{number}", item) for number, item in enumerate(value)]
        elif is_container(value):
            if any(type(key) is int for key in value):
                found.append(path.lstrip("/"))
            waiting += [(f"{path}/{key}", item) for key, item in value.items()]
    return found[::-1]

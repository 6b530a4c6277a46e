"""Writing a folder of `torch.distributed.checkpoint`, as one rank that has everything, without a process group."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from sucrose.engine import get_engine
from sucrose.interchange.dcp_failures import failure_of, save_error
from sucrose.interchange.losses import empty_containers, gradient_notes, note, sharing_notes
from sucrose.interchange.target import VALUE_KEY
from sucrose.interchange.trees import is_container, leaves_of
from sucrose.storage import StagedDirectory
from sucrose.storage.free_space import check_free_space

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sucrose.interchange.target import Target


def write_dcp(tree: Any, target: Target) -> list[str]:
    """Lets torch write the folder beside its place, and puts it there when everything is on the disk.

    Returns:
        What the format cannot hold.

    Raises:
        UnsupportedError: two values would have the same name.
        StorageFullError: there is less room than the tensors take; nothing was written, or it was removed.
        StorageError: writing failed; nothing was committed.
    """
    state = tree if isinstance(tree, dict) and is_container(tree) else {VALUE_KEY: tree}
    nbytes = sum(map(_certain_nbytes, leaves_of(state).values()))
    check_free_space(target.path, nbytes, replaces=os.path.isdir(target.path))
    staged = StagedDirectory(target.path)
    failure: BaseException | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no process group
            save(state, storage_writer=FileSystemWriter(staged.root), no_dist=True)
        files = list(_files(staged.root))
        staged.commit(files, get_engine().sync, overwrite=target.overwrite)
    except CheckpointException as error:
        staged.discard()
        failure = failure_of(error)
    except BaseException:
        staged.discard()
        raise
    if failure is not None:
        told = save_error(failure, target.path, nbytes)
        raise told from (None if told is failure else failure)
    return _notes(tree, state)


def _certain_nbytes(value: Any) -> int:
    """What a value takes in the file at least: a tied tensor is there once for each of its names."""
    is_dense = isinstance(value, torch.Tensor) and value.layout is torch.strided
    return 0 if not is_dense or value.is_nested or value.is_quantized else value.numel() * value.element_size()


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

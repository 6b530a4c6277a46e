"""Where torch tells the tracker what the program does.

Each patch wraps a method of a class of torch's, and keeps its name, signature and documentation. Nothing is written
into the program's objects: pickles and state dicts are as they were.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sucrose.autopatch.tracker import Tracker

_WRAPPED = "_sucrose_wrapped"

STATEFUL_LOADER = "torchdata.stateful_dataloader.stateful_dataloader"
"""A module with a loader of its own."""


def patch_torch(tracker: Tracker) -> None:
    """Patches torch, which is imported."""
    _patch_modules(tracker)
    _patch_optimizers(tracker)
    _patch_schedulers(tracker)
    _patch_loaders(tracker)
    _patch_functions(tracker)


def patch_stateful_loader(tracker: Tracker) -> None:
    """Patches the loader of torchdata, which is imported."""
    loader = sys.modules[STATEFUL_LOADER].StatefulDataLoader
    _after(loader, "__init__", lambda made: tracker.note_made("loaders", made))
    _instead(loader, "__iter__", lambda original, loader: tracker.begin_pass(loader, original))


def _patch_modules(tracker: Tracker) -> None:
    from torch import nn
    from torch.nn.modules.module import register_module_forward_pre_hook

    _after(nn.Module, "__init__", lambda made: tracker.note_made("modules", made))
    _after(nn.Module, "__setstate__", lambda made: tracker.note_made("modules", made))
    _before(nn.Module, "state_dict", lambda _: tracker.note_use(is_training=False))
    _before(nn.Module, "zero_grad", lambda _: tracker.note_zero_grad(None))

    def before_forward(*_: Any) -> None:
        if not tracker.note_forward():
            hook.remove()  # modules are called faster without

    hook = register_module_forward_pre_hook(before_forward)


def _patch_optimizers(tracker: Tracker) -> None:
    from torch.amp.grad_scaler import GradScaler
    from torch.optim import Optimizer

    def step(original: Callable[..., Any], optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        closure = kwargs.get("closure", args[0] if args else None)
        return tracker.step_optimizer(optimizer, lambda: original(optimizer, *args, **kwargs), closure)

    def note_made(optimizer: Optimizer) -> None:
        _instead(type(optimizer), "step", step)
        tracker.note_made("optimizers", optimizer)

    _after(Optimizer, "__init__", note_made)
    _after(Optimizer, "__setstate__", note_made)
    _before(Optimizer, "zero_grad", tracker.note_zero_grad)
    _after(GradScaler, "__init__", lambda made: tracker.note_made("scalers", made))
    _after(GradScaler, "__setstate__", lambda made: tracker.note_made("scalers", made))


def _patch_schedulers(tracker: Tracker) -> None:
    from torch.optim import lr_scheduler

    def step(original: Callable[..., Any], scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        return tracker.step_scheduler(scheduler, lambda: original(scheduler, *args, **kwargs))

    def note_made(scheduler: Any) -> None:
        _instead(type(scheduler), "step", step)
        tracker.note_made("schedulers", scheduler)

    for name in ("LRScheduler", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"):
        _after(getattr(lr_scheduler, name), "__init__", note_made)  # three of them do not call the first one's


def _patch_loaders(tracker: Tracker) -> None:
    from torch.utils.data import DataLoader
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    _after(DataLoader, "__init__", lambda made: tracker.note_made("loaders", made))
    _instead(DataLoader, "__iter__", lambda original, loader: tracker.begin_pass(loader, original))
    _instead(_BaseDataLoaderIter, "__next__", lambda original, iterator: tracker.next_batch(iterator, original))


def _patch_functions(tracker: Tracker) -> None:
    import torch

    def save(original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        file = kwargs.get("f", args[1] if len(args) > 1 else None)
        if not tracker.skips_save(file):
            original(*args, **kwargs)

    _instead(torch, "save", save)
    _before(torch.autograd, "backward", lambda *_: tracker.note_backward())
    _before(sys, "exit", lambda *_: tracker.note_leaving())


def _instead(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Has `around` called with the original and its arguments; once, whatever else wraps the method by now."""
    original = getattr(owner, name)
    if hasattr(original, _WRAPPED):
        return

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(wrapper, _WRAPPED, True)
    setattr(owner, name, wrapper)


def _after(owner: Any, name: str, tell: Callable[[Any], None]) -> None:
    """Has `tell` called with the object after the method."""

    def around(original: Callable[..., Any], made: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(made, *args, **kwargs)
        tell(made)
        return result

    _instead(owner, name, around)


def _before(owner: Any, name: str, tell: Callable[..., None]) -> None:
    """Has `tell` called with the first argument before the method or function."""

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        tell(args[0] if args else None)
        return original(*args, **kwargs)

    _instead(owner, name, around)

"""Waiting for a device before the clock is read. On a CPU there is nothing to wait for."""

from __future__ import annotations

import torch


def drain(device: str) -> None:
    """Waits until `device` has nothing left to do, on any stream."""
    if device == "cuda":
        torch.cuda.synchronize()


def release(device: str) -> None:
    """Gives memory back that torch keeps for later: other processes take their turn on the same device."""
    if device == "cuda":
        torch.cuda.empty_cache()


def settle(device: str) -> None:
    """Waits for what the program itself has asked for, and not for copies on streams of a contender's own.

    What a program puts on its stream after an asynchronous save could start now and not earlier.
    """
    if device == "cuda":
        torch.cuda.current_stream().synchronize()

"""What the killed programs share: a file that survives every kill, and states that show any mixture.

Before a state becomes visible to saves, a line ``had STEP TOKEN`` is appended to the oracle; after a save that has
returned, ``durable STEP TOKEN``; at the start of a program ``found STEP TOKEN``, or ``nothing 0 -``. The token
tells apart what different runs had at the same step.
"""

from __future__ import annotations

import os
import random
from typing import Any

import torch

_RANDOM = random.SystemRandom()


class Oracle:
    """Appends to the file; each line is one system call.

    Args:
        folder: the file is ``oracle`` in it.
    """

    def __init__(self, folder: str) -> None:
        self._fd = os.open(f"{folder}/oracle", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def had(self, step: int) -> str:
        """The program is about to have a new state; returns its token."""
        token = f"{_RANDOM.getrandbits(64):016x}"
        self._note("had", step, token)
        return token

    def durable(self, step: int, token: str) -> None:
        """A save of this state, or of a later one, has returned."""
        self._note("durable", step, token)

    def found(self, step: int, token: str) -> None:
        """The program begins with this state."""
        self._note("found", step, token)

    def nothing(self) -> None:
        """The program begins without any state."""
        self._note("nothing", 0, "-")

    def _note(self, what: str, step: int, token: str) -> None:
        os.write(self._fd, f"{what} {step} {token}\n".encode())


class TrainingState:
    """Tensors that are changed in place from step to step, as an optimizer does, and what belongs to them."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {
            "large": torch.zeros(400_000),  # enough for writes past the page cache, and for several pages of any kind
            "small": [torch.zeros(3) for _ in range(5)],
            "frozen": torch.arange(100_000),  # what incremental saves refer to
            "step": 0,
            "token": "",
        }

    def change(self, step: int, token: str) -> None:
        """Makes it the state of `step`."""
        mark = int(token[:5], 16)
        self.values["large"].fill_(mark)
        for tensor in self.values["small"]:
            tensor.fill_(mark)
        self.values.update(step=step, token=token)


def checked(values: dict[str, Any]) -> tuple[int, str]:
    """Step and token of a state that was found, of which every part has to be of the same step."""
    mark = int(values["token"][:5], 16)
    assert values["large"].shape == (400_000,)
    assert values["large"].eq(mark).all(), values
    assert len(values["small"]) == 5
    assert all(tensor.eq(mark).all() for tensor in values["small"]), values
    assert values["frozen"].equal(torch.arange(100_000))
    return values["step"], values["token"]

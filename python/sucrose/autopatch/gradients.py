"""Which gradients wait to be added to, or stepped along, and so are part of a program's state."""

from __future__ import annotations

from collections.abc import Iterable


class Gradients:
    """Counts backward passes, and which of them each optimizer has dealt with."""

    def __init__(self) -> None:
        self.backwards = 0
        self._backwards_at_boundary = 0
        self._seen: dict[str, int] = {}
        self._are_thrown_away = False
        """The program calls a `zero_grad`: what an optimizer has stepped along does not matter any more."""

    def note_backward(self) -> None:
        """Gradients are about to be added to."""
        self.backwards += 1

    def note_boundary(self) -> None:
        """All that the program keeps fits together; see `Timeline`."""
        self._backwards_at_boundary = self.backwards

    def note_step(self, optimizer: str) -> None:
        """The optimizer has stepped along its gradients."""
        self._seen[optimizer] = self.backwards

    def note_zero_grad(self, optimizer: str | None) -> None:
        """The gradients of that optimizer (None: of some module) are thrown away."""
        self._are_thrown_away = True
        if optimizer is not None:
            self._seen[optimizer] = self.backwards

    def pending(self, optimizers: Iterable[str], *, at_boundary: bool) -> list[str]:
        """Optimizers for which gradients wait: now, or those for which some waited at the last boundary."""
        backwards = self._backwards_at_boundary if at_boundary else self.backwards
        return [key for key in optimizers if backwards > self._seen.get(key, 0)]

    def matter(self, optimizer: str, pending: list[str]) -> bool:
        """Whether the values of its gradients have to be saved."""
        return optimizer in pending or not self._are_thrown_away

    def resume(self, optimizers: Iterable[str], pending: Iterable[str]) -> None:
        """Those of `pending` wait, those of `optimizers` otherwise do not."""
        self._backwards_at_boundary = self.backwards
        self._seen = dict.fromkeys(optimizers, self.backwards)
        for key in pending:
            self._seen[key] = self.backwards - 1

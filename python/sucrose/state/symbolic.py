"""`StateSymbolicManager`: a state that is a variable of the program's."""

from __future__ import annotations

from types import FrameType
from typing import Any

from sucrose.state.caller import name_of_variable, namespace_of, program_frame
from sucrose.state.held import UNSET, Held
from sucrose.state.managers import HoldingStateManager


class StateSymbolicManager(HoldingStateManager):
    """Keeps the caller's variable: the state is the value that the variable has whenever it is asked for.

    `update` takes a plain variable: a local or global one, or one of a surrounding function. The last
    value of a local variable remains when its function has returned, for which its frame is kept, and
    with that all its local variables, until the next `update` or `delete`.

    Example:
        >>> from sucrose.state.symbolic import StateSymbolicManager
        >>> loss = 0.1
        >>> manager = StateSymbolicManager("symbolic")
        >>> manager.update(loss)
        >>> loss = 0.2
        >>> manager.get()
        0.2
    """

    def update(self, value: Any) -> None:
        """Keeps the variable that is passed. A variable that is None now is ignored.

        Raises:
            TypeError: the argument is not a plain variable.
        """
        super().update(value)

    def _hold(self, value: Any) -> Held:
        frame = program_frame()
        name = name_of_variable(frame, value, self.uid)
        return _Variable(frame, name)


class _Variable(Held):
    def __init__(self, frame: FrameType, name: str) -> None:
        # A module's variables need no frame: they outlive the function that has named them.
        self._of_module = frame.f_globals if namespace_of(frame, name) is frame.f_globals else None
        self._frame = frame if self._of_module is None else None
        self._name = name

    def to_save(self) -> Any:
        variables = self._of_module if self._frame is None else namespace_of(self._frame, self._name)
        assert variables is not None
        return variables.get(self._name, UNSET)

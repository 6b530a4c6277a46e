"""`FSDPOptimizerAdapter`: the state of an optimizer of fully sharded modules, by the names of the parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class FSDPOptimizerAdapter:
    """An optimizer of a `FullyShardedDataParallel` module, in a state that fits any number of ranks.

    Such an optimizer by itself knows parameters that are flat and cut by rank; its own state fits the same ranks only.
    This state goes by the names of the original parameters, and its tensors are spread over the ranks like those.

    Optimizers of FSDP2 (`fully_shard`) need no adapter, as their states are DTensors already. With one, they and
    those of plain modules exchange states with FSDP1.

    All ranks take and restore it together: gathering it is a collective of the training group.

    Example, as all ranks run it::

        model = FullyShardedDataParallel(model, use_orig_params=True)
        optimizer = torch.optim.AdamW(model.parameters())
        FullyShardedDataParallel.set_state_dict_type(model, StateDictType.SHARDED_STATE_DICT)
        app_state = {"model": model, "optimizer": FSDPOptimizerAdapter(model, optimizer)}
        Snapshot.take("/shared/step_100", app_state)
    """

    def __init__(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Wraps `optimizer`, which has the parameters of `module`."""
        self.module = module
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """Sharded tensors by parameter names; without any where the optimizer has made no step."""
        if not self.optimizer.state:
            groups = self.state_dict_to_fill()["param_groups"]
            self.optimizer.state.clear()
            return {"state": {}, "param_groups": groups}
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        return get_optimizer_state_dict(self.module, self.optimizer)

    def state_dict_to_fill(self) -> dict[str, Any]:
        """The same, for a restore: an optimizer that has made no step gets the tensors that a step would make."""
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        with _without_gradients(self.optimizer):  # with them torch would leave that to the next step
            return get_optimizer_state_dict(self.module, self.optimizer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` has returned, on these or other ranks."""
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        if state_dict["state"]:
            with _without_gradients(self.optimizer):
                set_optimizer_state_dict(self.module, self.optimizer, state_dict)
            return
        own = self.optimizer.state_dict()["param_groups"]
        groups = [
            {**saved, "params": group["params"]} for saved, group in zip(state_dict["param_groups"], own, strict=True)
        ]
        self.optimizer.load_state_dict({"state": {}, "param_groups": groups})


@contextmanager
def _without_gradients(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

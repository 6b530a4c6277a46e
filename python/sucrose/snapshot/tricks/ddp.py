"""`DistributedDataParallelAdapter`: the state of a DDP module as that of the module in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.nn.parallel import DistributedDataParallel


class DistributedDataParallelAdapter:
    """A `DistributedDataParallel` module whose state goes by the names of the module in it.

    DDP puts ``module.`` before every name, so that its snapshots fit DDP only. Through this adapter they fit the bare
    module, and any number of ranks, and the other way round. Its values count as replicated, as those of DDP itself do.

    Example:
        >>> import os, tempfile, torch
        >>> from sucrose import DistributedDataParallelAdapter, Snapshot
        >>> store = torch.distributed.FileStore(tempfile.mktemp(), 1)
        >>> torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        >>> model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 2))
        >>> path = tempfile.mkdtemp() + "/step_1"
        >>> snapshot = Snapshot.take(path, {"model": DistributedDataParallelAdapter(model)})
        >>> torch.distributed.destroy_process_group()
        >>> bare = torch.nn.Linear(4, 2)
        >>> report = Snapshot(path).restore({"model": bare})
        >>> torch.equal(bare.weight, model.module.weight)
        True
    """

    def __init__(self, module: DistributedDataParallel) -> None:
        """Wraps `module`, which is used as before."""
        self.distributed_data_parallel = module

    @property
    def bare_module(self) -> torch.nn.Module:
        """The module in it."""
        module: torch.nn.Module = self.distributed_data_parallel.module
        return module

    def state_dict(self) -> dict[str, Any]:
        """That of the module in it."""
        return self.bare_module.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> None:
        """Loads what `state_dict` has returned, or a bare module's."""
        self.bare_module.load_state_dict(state_dict, strict=strict)

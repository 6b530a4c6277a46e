"""The states that snapshots of both packages are tested with. Imports neither of them."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import torch

SHARED_DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]
"""The dense dtypes that the original has a name for. (It cannot write an odd number of bfloat16.)"""


class TiedModel(torch.nn.Module):
    def __init__(self, spare: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 8)
        self.body = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8))
        self.head = torch.nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("nothing", torch.rand(spare, 3))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embedding(tokens)))  # type: ignore[no-any-return]


def random_tensor(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    numel = math.prod(shape)
    if dtype is torch.bool:
        return torch.randint(2, (numel,)).bool().view(shape)
    return torch.randint(256, (numel * dtype.itemsize,), dtype=torch.uint8).view(dtype).view(shape)


def quantized_tensors() -> list[torch.Tensor]:
    values, scales, zeros = torch.randn(4, 8), torch.rand(4) + 0.1, torch.tensor([0, 1, 2, 3])
    return [
        torch.quantize_per_tensor(values, 0.1, 2, torch.qint8),
        torch.quantize_per_tensor(values, 0.2, 3, torch.quint8),
        torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8),
    ]


def make_app_state(seed: int, state_dict: Any, rng_state: Any, *, empty: bool = True) -> dict[str, Any]:
    """Statefuls of the same shape for every seed, with other values.

    Args:
        seed: of all values.
        state_dict: the package's StateDict.
        rng_state: the package's RNGState.
        empty: whether there are tensors without elements, which the original cannot write.
    """
    torch.manual_seed(seed)
    spare = 0 if empty else 1
    model = TiedModel(spare)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1 / (seed + 1), betas=(0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(3 + seed):
        model(torch.randint(20, (5,))).square().mean().backward()
        optimizer.step()
        scheduler.step()
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "dtypes": state_dict(**{str(dtype): random_tensor(dtype, 4, 5) for dtype in SHARED_DTYPES}),
        "layouts": state_dict(
            scalar=torch.tensor(seed + 0.5),
            empty=torch.rand(2, spare),
            transposed=torch.randn(4, 3).t(),
            strided=torch.randn(8, 6)[::2, 1::3],
            expanded=torch.randn(1, 3).expand(2, 3).clone(),
            large=torch.randn(64, 33),
        ),
        "primitives": state_dict(
            numbers=[seed, -(2**70) - seed, True, seed == 0, 0.1 * seed, -0.0, math.inf, 1e-320],
            texts=[
                f"seed {seed}",
                "",
                "ä中",
                "a: b\n\t\"'#",
                "null",
                "\x7f\x85\u2028\u2029\ufeff\ufffe",
                bytes([seed, 255]),
            ],
        ),
        "containers": state_dict(
            nested={"z": [{"a": torch.randn(2)}, [], {}, OrderedDict(b=[torch.randn(1), seed])], 5: {-1: seed}},
            keys={"a/b": torch.randn(1), "%": torch.randn(1), "": seed, "..": seed, "ä": torch.randn(1)},
        ),
        "objects": state_dict(
            nothing=None, pair=(seed, torch.randn(2)), collide={1: seed, "1": seed}, tuples={(1, 2): seed}
        ),
        "rng": rng_state(),
    }


def make_rank_state(rank: int, world_size: int, state_dict: Any, *, is_zero: bool = False) -> dict[str, Any]:
    """Statefuls of one of several ranks: its own, those that are equal on all, and tensors that are spread over them.

    Args:
        rank: of the default process group.
        world_size: of it.
        state_dict: the package's StateDict.
        is_zero: the same with other values, to be restored into.
    """
    from golden.make_golden_ranks import equal_values, own_values, spread_values

    torch.manual_seed(rank)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    own = {**own_values(rank), "lists": [[torch.full((2,), float(rank))], {"step": rank}]}
    equal = {**equal_values(), "lists": [torch.ones(2), 3, [torch.ones(1)], {}], "object": (1, 2)}
    app_state = {"model": model, "own": state_dict(**own), "equal": state_dict(**equal)}
    app_state["spread"] = state_dict(**spread_values(world_size))
    if is_zero:
        for key in ("own", "equal", "spread"):
            app_state[key].update(_zeroed(dict(app_state[key])))
        for tensor in model.state_dict().values():
            tensor.zero_()
    return app_state


def _zeroed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _zeroed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_zeroed(part) for part in value]
    if hasattr(value, "local_shards"):
        for shard in value.local_shards():
            shard.tensor.zero_()
        return value
    if isinstance(value, torch.Tensor):
        return value.zero_()
    return None if isinstance(value, tuple) else type(value)()


def rank_contents(app_state: dict[str, Any]) -> dict[str, Any]:
    """What a rank holds, with its parts alone of tensors that are spread."""

    def held(value: Any) -> Any:
        if hasattr(value, "local_shards"):
            return [shard.tensor for shard in value.local_shards()]
        return value.to_local() if hasattr(value, "to_local") else value

    return {
        key: {name: held(value) for name, value in stateful.state_dict().items()} for key, stateful in app_state.items()
    }


def contents(app_state: dict[str, Any]) -> dict[str, Any]:
    """What `app_state` holds, generators aside, in plain types."""
    return {key: value.state_dict() for key, value in app_state.items() if key != "rng"}

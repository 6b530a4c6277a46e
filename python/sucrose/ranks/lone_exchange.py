"""An operation of one rank."""

from __future__ import annotations

from sucrose.ranks.exchange import Exchange


class LoneExchange(Exchange):
    """An exchange with nobody: what is given comes back."""

    rank = 0
    world_size = 1

    def gather(self, step: str, value: bytes) -> list[bytes]:  # noqa: ARG002  # there is nobody to wait for
        return [value]

    def gather_distinct(self, step: str, value: bytes) -> list[bytes]:
        return self.gather(step, value)

    def broadcast(self, step: str, value: bytes | None) -> bytes:
        if value is None:
            raise ValueError(f"rank 0 has nothing to broadcast at {step!r}")
        return value

    def alive(self) -> None:
        pass

    def check(self) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        pass

    def give_up_waiting(self) -> None:
        pass

    def close(self) -> None:
        pass

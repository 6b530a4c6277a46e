from typing import TypeAlias

from typing_extensions import Buffer

CHUNK_NBYTES: int

class Ticket:
    def progress(self) -> tuple[int, int]: ...
    def cancel(self) -> None: ...

class WriteTicket(Ticket):
    def wait(self, timeout_s: float | None = None) -> tuple[int, bytes] | None: ...

class ReadTicket(Ticket):
    def wait(self, timeout_s: float | None = None) -> tuple[int, list[tuple[int, str, str]], list[int]] | None: ...

_Strides: TypeAlias = list[tuple[int, list[int], list[int], int]]

class Engine:
    def __init__(
        self,
        *,
        io_backend: str,
        read_mode: str,
        slot_count: int,
        worker_count: int,
        io_depth: int,
        direct_min_nbytes: int,
    ) -> None: ...
    def write(
        self,
        path: str | bytes,
        addresses: Buffer,
        nbytes: Buffer,
        strided: _Strides,
        *,
        digest: bool,
        durable: bool,
    ) -> WriteTicket: ...
    def read(
        self,
        path: str | bytes,
        offsets: Buffer,
        addresses: Buffer,
        nbytes: Buffer,
        strided: _Strides,
        *,
        file_nbytes: int,
        digests: bytes,
        crc32: bool,
        whole_file: bool,
        fresh: bool,
        max_inflight_nbytes: int,
    ) -> ReadTicket: ...
    def crc32(self, addresses: Buffer, nbytes: Buffer) -> list[int]: ...
    def sync(self, paths: list[str] | list[bytes]) -> None: ...
    def stats(self) -> dict[str, object]: ...

def digest(data: Buffer) -> bytes: ...
def build_info() -> dict[str, str]: ...

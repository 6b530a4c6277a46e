from typing import Any, TypeAlias

from typing_extensions import Buffer

CHUNK_NBYTES: int

class Ticket:
    def progress(self) -> tuple[int, int]: ...
    def cancel(self) -> None: ...

class WriteTicket(Ticket):
    def wait(self, timeout_s: float | None = None) -> tuple[int, bytes] | None: ...
    def wait_safe(self, timeout_s: float | None = None) -> bool: ...
    def wait_staged(self, timeout_s: float | None = None) -> bool: ...
    def staging(self) -> str: ...

class ReadTicket(Ticket):
    def wait(self, timeout_s: float | None = None) -> tuple[int, list[tuple[int, str, str]], list[int]] | None: ...

_Strides: TypeAlias = list[tuple[int, list[int], list[int], int]]
_Streams: TypeAlias = list[tuple[int, int]]

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
        cuda_driver: str,
        trace: str,
    ) -> None: ...
    def write(
        self,
        path: str | bytes,
        addresses: Buffer,
        nbytes: Buffer,
        devices: Buffer,
        strided: _Strides,
        streams: _Streams,
        *,
        digest: bool,
        durable: bool,
        staging: str,
        staging_nbytes: int,
    ) -> WriteTicket: ...
    def read(
        self,
        path: str | bytes,
        offsets: Buffer,
        addresses: Buffer,
        nbytes: Buffer,
        devices: Buffer,
        strided: _Strides,
        streams: _Streams,
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
    def kept_staging_nbytes(self) -> int: ...
    def reaches_device(self, ordinal: int) -> bool: ...
    def trace(self, name: str, begin_s: float, end_s: float) -> None: ...
    def stats(self) -> dict[str, Any]: ...

def digest(data: Buffer) -> bytes: ...
def fail_exit(status: int) -> None: ...
def build_info() -> dict[str, str]: ...

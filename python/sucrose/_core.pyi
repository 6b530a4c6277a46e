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
    def stored(self) -> tuple[bytes, bytes] | None: ...

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
        digest_kind: str = "xxh3-128",
        encoding: tuple[int, bytes, bool] | None = None,
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
        digest_kind: str = "xxh3-128",
        stored: tuple[Buffer, bytes] | None = None,
    ) -> ReadTicket: ...
    def crc32(self, addresses: Buffer, nbytes: Buffer) -> list[int]: ...
    def fingerprint(
        self,
        addresses: Buffer,
        nbytes: Buffer,
        devices: Buffer,
        strided: _Strides,
        streams: _Streams,
        *,
        piece_nbytes: Buffer,
    ) -> bytes: ...
    def sync(self, paths: list[str] | list[bytes]) -> None: ...
    def kept_staging_nbytes(self) -> int: ...
    def reaches_device(self, ordinal: int) -> bool: ...
    def trace(self, name: str, begin_s: float, end_s: float) -> None: ...
    def stats(self) -> dict[str, Any]: ...

def digest(data: Buffer, digest_kind: str = "xxh3-128") -> bytes: ...
def fail_exit(status: int) -> None: ...
def build_info() -> dict[str, str]: ...

FAULT_SITES: tuple[str, ...]
FAULT_FOREVER: int
FAULT_HALF_OF_EACH: int

def fault_add(site: str, *, nth: int, times: int, errno: int) -> int: ...
def fault_remove(rule: int) -> int: ...
def fault_limit_transfers(nbytes: int) -> None: ...
def fault_shuffle_completions(seed: int) -> None: ...
def fault_count_calls(on: bool) -> None: ...
def fault_counts() -> list[int]: ...
def fault_error_at(site: str) -> int: ...
def fault_allowed_nbytes(nbytes: int) -> int: ...
def journal_tick() -> int: ...
def journal_start() -> None: ...
def journal_stop() -> list[tuple[str, int, int, int, int, str, int, bytes]]: ...

"""System calls that the kernel refuses from here on, by a seccomp filter: as in containers, and on older kernels.

For programs of their own, as a filter is for good. Threads that run already are not covered.
"""

from __future__ import annotations

import ctypes
import platform
import struct

_ARCHITECTURES = {  # audit architecture, and numbers of the calls
    "x86_64": (0xC000003E, {"flock": 73, "fcntl": 72, "mincore": 27, "madvise": 28, "fallocate": 285, "renameat2": 316,
                            "sync_file_range": 277, "statfs": 137, "io_uring_setup": 425, "fstatfs": 138}),
    "aarch64": (0xC00000B7, {"flock": 32, "fcntl": 25, "mincore": 232, "madvise": 233, "fallocate": 47,
                             "renameat2": 276, "sync_file_range": 84, "statfs": 43, "io_uring_setup": 425,
                             "fstatfs": 44}),
}  # fmt: skip
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENT = 0, 4, 16
_F_SETFL = 4
_O_DIRECT = {"x86_64": 0o40000, "aarch64": 0o200000}


def refuse(call: str, error_number: int) -> None:
    """Has `call` fail with `error_number`; ``O_DIRECT`` stands for setting that flag of an open file."""
    machine = platform.machine()
    architecture, numbers = _ARCHITECTURES[machine]
    if call == "O_DIRECT":
        program = [
            (_LOAD, 0, 0, _AT_NUMBER),
            (_EQUAL, 0, 5, numbers["fcntl"]),
            (_LOAD, 0, 0, _AT_ARGUMENT + 8),
            (_EQUAL, 0, 3, _F_SETFL),
            (_LOAD, 0, 0, _AT_ARGUMENT + 16),
            (_ANY_BIT, 0, 1, _O_DIRECT[machine]),
        ]
    else:
        program = [(_LOAD, 0, 0, _AT_NUMBER), (_EQUAL, 0, 1, numbers[call])]
    _install(
        [
            (_LOAD, 0, 0, _AT_ARCHITECTURE),
            (_EQUAL, 0, len(program) + 1, architecture),
            *program,
            (_RETURN, 0, 0, _ERRNO | error_number),
            (_RETURN, 0, 0, _ALLOW),
        ]
    )


def _install(program: list[tuple[int, int, int, int]]) -> None:
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

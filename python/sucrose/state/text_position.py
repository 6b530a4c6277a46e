"""The position of a text file, also while another thread reads from it.

To tell it, a text file turns its decoder back and decodes some text anew, in Python. A thread that is in
the middle of decoding would then go on with a decoder in the wrong state, and lose or garble what it
reads. And what a file tells in the middle of a read is wrong. So that neither happens:

1. The file is asked in the main thread, which reads most files, and does not while it asks.
2. Threads are not switched by force meanwhile, but only where they wait for something.
3. No thread must have a codec on its stack. One that does is waited for.
4. The file is asked twice. A thread that has just read, and has not come to decoding, does so in between.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import cast

from sucrose.errors import UnsupportedError
from sucrose.state.main_thread_call import call_in_main_thread

_ATTEMPTS = 200
_PAUSE_S = 0.001
_MAIN_THREAD_TIMEOUT_S = 0.2
_SWITCH_INTERVAL_S = 0.5

_changing_interval = threading.RLock()  # a signal handler may come in between, and gives back what it has found


def position_of(file: io.TextIOWrapper) -> int:
    """What `file.tell()` returns.

    Raises:
        UnsupportedError: a loop over its lines is under way, or it is read without a pause.
    """
    if not file.readable():
        file.flush()
        buffer = cast("io.BufferedWriter", file.buffer)
        return buffer.seek(0, io.SEEK_CUR)  # there is no decoder; and `tell` is wrong while another thread writes
    for _ in range(_ATTEMPTS):
        position = call_in_main_thread(lambda: _try_tell(file), _MAIN_THREAD_TIMEOUT_S)
        if position is not None:
            return position
        if _is_decoding(sys._getframe()):  # noqa: SLF001 - in the handler of a signal: the codec waits for us
            break
        time.sleep(_PAUSE_S)
    raise UnsupportedError(f"the file {file.name!r} is being read at this moment: it cannot tell its position")


def _try_tell(file: io.TextIOWrapper) -> int | None:
    """The position; None where the file cannot be asked now."""
    positions = []
    for _ in range(2):
        time.sleep(_PAUSE_S)
        with _switching_only_where_threads_wait():
            if any(map(_is_decoding, sys._current_frames().values())):  # noqa: SLF001 - made for looking at threads
                return None
            positions.append(_tell(file))
    return positions[0] if positions[0] == positions[1] else None


def _tell(file: io.TextIOWrapper) -> int:
    try:
        return file.tell()
    except OSError as error:
        if error.errno is not None:
            raise
        raise UnsupportedError(
            f"the file {file.name!r} cannot tell its position while a for loop reads its lines: loop over "
            "iter(file.readline, '') instead"
        ) from error


@contextmanager
def _switching_only_where_threads_wait() -> Iterator[None]:
    with _changing_interval:
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        try:
            yield
        finally:
            sys.setswitchinterval(interval_s)


def _is_decoding(frame: FrameType | None) -> bool:
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if isinstance(module, str) and (module == "codecs" or module.startswith("encodings.")):
            return True
        frame = frame.f_back
    return False

"""Open files in states: contents, position, mode and permissions are there again."""

from __future__ import annotations

import codecs
import errno
import io
import os
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from typing import IO, TYPE_CHECKING, Any

import pytest

from sucrose import Snapshot
from sucrose.errors import UnsafeObjectError, UnsupportedError
from sucrose.state import open_files
from sucrose.state.managers import StateManager
from sucrose.state.values import FrozenState, freeze, from_state_dict, thaw, to_state_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Buffer

PATIENCE_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "test.txt"


@pytest.fixture(autouse=True)
def folder(path: Path) -> Path:
    path.parent.mkdir()
    return path.parent


@pytest.fixture
def reopened() -> Iterator[Reopened]:
    opened = Reopened()
    yield opened
    for file in opened.files:
        file.close()


class Reopened:
    """Puts frozen files back, and closes them when the test is over."""

    def __init__(self) -> None:
        self.files: list[IO[Any]] = []

    def __call__(self, frozen: FrozenState) -> Any:
        file = thaw(from_state_dict(to_state_dict(frozen)), key="file", source="memory", distrust=None)
        self.files.append(file)
        return file


def left_behind(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_written_file_that_is_gone_is_there_again_at_its_position(path: Path, reopened: Reopened) -> None:
    with path.open("w") as file:
        file.write("hello")
        frozen = freeze(file, "file")
    path.unlink()
    again = reopened(frozen)
    assert path.read_text() == "hello"
    assert (type(again), again.mode, again.tell(), again.name) == (io.TextIOWrapper, "w", 5, str(path))
    again.write(" world")
    again.flush()
    assert path.read_text() == "hello world"
    assert left_behind(path.parent) == ["test.txt"]


def test_what_was_written_after_the_save_is_undone(path: Path, reopened: Reopened) -> None:
    with path.open("w") as file:
        file.write("saved")
        frozen = freeze(file, "file")
        file.write(" and lost")
    again = reopened(frozen)
    assert path.read_text() == "saved"
    again.write("!")
    again.flush()
    assert path.read_text() == "saved!"


def test_a_folder_that_is_gone_is_made_again(path: Path, reopened: Reopened) -> None:
    with path.open("w") as file:
        file.write("hello")
        frozen = freeze(file, "file")
    path.unlink()
    path.parent.rmdir()
    reopened(frozen)
    assert path.read_text() == "hello"


def test_a_file_that_is_as_it_was_is_left_alone(path: Path, reopened: Reopened) -> None:
    with path.open("w") as file:
        file.write("hello")
        frozen = freeze(file, "file")
    os.utime(path, ns=(1, 1))
    before = path.stat()
    reopened(frozen)
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("mode", ["w", "w+", "r", "r+", "a", "a+", "x", "wt", "wb", "wb+", "rb", "rb+", "ab", "xb"])
@pytest.mark.parametrize("buffering", [-1, 0, 1])
def test_every_mode_is_kept(path: Path, reopened: Reopened, mode: str, buffering: int) -> None:
    is_binary = "b" in mode
    if (buffering == 0 and not is_binary) or (buffering == 1 and is_binary):
        return  # there is no such thing
    if mode[0] in "ra":
        path.write_bytes(b"0123456789")
    with path.open(mode, buffering) as file:
        if file.writable():
            file.write(b"abc" if is_binary else "abc")
        else:
            file.read(3)
        frozen = freeze(file, "file")
        found = (type(file), file.mode, file.tell(), file.readable(), file.writable(), getattr(file, "encoding", None))
        line_buffering = getattr(file, "line_buffering", None)
    contents = path.read_bytes()
    path.write_bytes(b"something else that is longer than before")
    again = reopened(frozen)
    assert (
        type(again),
        again.mode,
        again.tell(),
        again.readable(),
        again.writable(),
        getattr(again, "encoding", None),
    ) == found
    assert getattr(again, "line_buffering", None) == line_buffering
    assert path.read_bytes() == contents
    if again.writable():
        again.write(b"!" if is_binary else "!")
        again.flush()
        position = len(contents) if mode.startswith("a") else found[2]
        assert path.read_bytes() == contents[:position] + b"!" + contents[position + 1 :]
    else:
        assert again.read() == (contents[3:] if is_binary else contents[3:].decode())


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-8-sig"])
def test_text_goes_on_in_its_encoding(path: Path, reopened: Reopened, encoding: str) -> None:
    with path.open("w", encoding=encoding, errors="replace") as file:
        file.write("äöü")
        frozen = freeze(file, "file")
    path.unlink()
    again = reopened(frozen)
    assert (again.encoding, again.errors) == (encoding, "replace")
    again.write("ß")
    again.flush()
    assert path.read_text(encoding=encoding) == "äöüß"


def test_a_text_that_is_read_goes_on_in_the_middle_of_a_line(path: Path, reopened: Reopened) -> None:
    path.write_text("zeile äöü\n" * 5000, encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        file.readline()
        file.read(7)
        frozen = freeze(file, "file")
        rest = file.read()
    path.unlink()
    assert reopened(frozen).read() == rest


def test_saving_leaves_the_program_where_it_reads_and_writes(path: Path) -> None:
    path.write_text("0123456789")
    with path.open("r+") as file:
        assert file.read(3) == "012"
        freeze(file, "file")
        assert file.read(2) == "34"
        file.seek(5)
        file.write("ab")
        freeze(file, "file")
        file.write("c")
    assert path.read_text() == "01234abc89"


def test_write_through_is_kept(path: Path, reopened: Reopened) -> None:
    with io.TextIOWrapper(path.open("wb"), write_through=True) as file:
        frozen = freeze(file, "file")
    again = reopened(frozen)
    assert (again.write_through, again.mode) == (True, "w")


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o755, 0o444, 0o200])
def test_permissions_are_kept(path: Path, reopened: Reopened, permissions: int) -> None:
    with path.open("w") as file:
        file.write("hello")
        path.chmod(permissions)
        frozen = freeze(file, "file")
    path.unlink()
    reopened(frozen)
    assert stat.S_IMODE(path.stat().st_mode) == permissions
    path.chmod(0o666)
    reopened(frozen)
    assert stat.S_IMODE(path.stat().st_mode) == permissions


def test_a_relative_name_is_of_the_folder_in_which_the_file_was_opened(
    path: Path, reopened: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    file = open("test.txt", "w")  # noqa: SIM115 - closed below, and outside of the folder
    monkeypatch.chdir("/")
    file.write("hello")
    frozen = freeze(file, "file")
    file.close()
    path.unlink()
    assert reopened(frozen).name == str(path)
    assert path.read_text() == "hello"


def test_a_file_that_was_moved_while_it_was_open_is_put_back_where_it_went(path: Path, reopened: Reopened) -> None:
    with path.open("w") as file:
        file.write("hello")
        moved = path.rename(path.with_name("moved.txt"))
        frozen = freeze(file, "file")
    moved.unlink()
    reopened(frozen)
    assert left_behind(path.parent) == ["moved.txt"]


@pytest.mark.parametrize("name", ["test.txt", "odd (deleted)"])
def test_a_file_that_was_deleted_while_it_was_open_is_put_back(path: Path, reopened: Reopened, name: str) -> None:
    path = path.with_name(name)
    with path.open("w+") as file:
        file.write("hello")
        kept = freeze(file, "file")
        path.unlink()
        deleted = freeze(file, "file")
    for frozen in (kept, deleted):
        assert reopened(frozen).tell() == 5
        assert left_behind(path.parent) == [name]
        assert path.read_text() == "hello"
        path.unlink()


def test_a_link_is_followed_when_saving_and_not_when_restoring(path: Path, reopened: Reopened, tmp_path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with link.open("w") as file:
        file.write("hello")
        frozen = freeze(file, "file")
    victim = tmp_path / "victim"
    victim.write_text("of somebody else")
    path.unlink()
    path.symlink_to(victim)
    reopened(frozen)
    assert victim.read_text() == "of somebody else"
    assert not path.is_symlink()
    assert link.read_text() == "hello"


def test_something_else_with_the_name_of_the_file_is_not_destroyed(path: Path) -> None:
    with path.open("w") as file:
        frozen = freeze(file, "file")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileExistsError) as taken:
        thaw(frozen, key="file", source="memory", distrust=None)
    assert taken.value.filename == str(path)
    assert left_behind(path.parent) == ["test.txt"]


def test_a_closed_file_that_was_written_is_opened_at_its_end(path: Path, reopened: Reopened) -> None:
    with path.open("w") as file:
        file.write("hello")
    frozen = freeze(file, "file")
    path.unlink()
    again = reopened(frozen)
    assert (again.tell(), path.read_text()) == (5, "hello")


def test_a_closed_file_that_was_read_is_opened_where_it_was_seen_last(
    path: Path, reopened: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("0123456789")
    monkeypatch.chdir(path.parent)
    manager = StateManager("a file that is closed early")
    with open("test.txt") as file:
        file.read(4)
        manager.update(file)
        file.read(2)
    monkeypatch.chdir("/")
    frozen = freeze(manager.state_to_save(), "file")
    manager.delete()
    assert reopened(frozen).read() == "456789"


def test_a_closed_file_that_is_gone_is_refused(path: Path) -> None:
    with path.open("w") as file:
        pass
    path.unlink()
    with pytest.raises(UnsupportedError) as refused:
        freeze(file, "file")
    assert refused.value.key == "file"
    assert str(path) in str(refused.value)


def test_files_are_found_inside_of_values_and_stay_one_file(path: Path, reopened: Reopened) -> None:
    with path.open("w") as file:
        file.write("hello")
        frozen = freeze({"a": [file], "b": file}, "file")
    path.unlink()
    value = thaw(frozen, key="file", source="memory", distrust=None)
    reopened.files.append(value["b"])
    assert value["a"][0] is value["b"]
    assert path.read_text() == "hello"


def test_a_file_goes_through_a_snapshot(path: Path, reopened: Reopened, tmp_path: Path, each_engine: str) -> None:
    class Stored:
        def state_dict(self) -> dict[str, Any]:
            return to_state_dict(freeze(file, "file"))

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            raise AssertionError

    data = os.urandom(100_000)
    with path.open("wb") as file:
        file.write(data)
        snapshot = Snapshot.take(tmp_path / "snapshot", {"file": Stored()}, durable=False)
    path.unlink()
    again = reopened(from_state_dict(snapshot.get_state_dict_for_key("file")))
    assert path.read_bytes() == data
    assert again.tell() == len(data)


def test_an_empty_file_comes_back(path: Path, reopened: Reopened) -> None:
    with path.open("wb") as file:
        frozen = freeze(file, "file")
    path.unlink()
    assert reopened(frozen).tell() == 0
    assert path.read_bytes() == b""


def test_a_file_that_could_not_be_trusted_is_not_written(path: Path) -> None:
    with path.open("w") as file:
        file.write("hello")
        frozen = freeze(file, "file")
    path.write_text("changed")
    with pytest.raises(UnsafeObjectError, match="it is a test"):
        thaw(frozen, key="file", source="memory", distrust="it is a test")
    assert path.read_text() == "changed"


def test_a_named_temporary_file_comes_back_and_deletes_itself(path: Path, reopened: Reopened) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:
        file.write("hello")
        frozen = freeze(file, "file")
        name = file.name
    assert not os.path.exists(name)
    again = reopened(frozen)
    assert (again.name, again.tell()) == (name, 5)
    again.close()
    assert not os.path.exists(name)


def special_files() -> Iterator[tuple[str, Any]]:
    reading, writing = os.pipe()
    yield "pipe", os.fdopen(reading, "rb")
    yield "pipe", os.fdopen(writing, "w")
    yield "device", open("/dev/null", "w")  # noqa: SIM115 - the test closes it
    yield "temporary file without a name", tempfile.TemporaryFile()  # noqa: SIM115 - the test closes it
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        yield "socket", ours.makefile("rwb", buffering=0)
    yield "BytesIO", io.TextIOWrapper(io.BytesIO(b"abc"))


def test_files_that_cannot_be_opened_again_are_refused() -> None:
    count = 0
    for what, file in special_files():
        with file, pytest.raises(UnsupportedError) as refused:
            freeze([file], "progress")
        assert refused.value.key == "progress"
        assert what in str(refused.value) or "SocketIO" in str(refused.value)
        count += 1
    assert count == 6


def test_a_standard_stream_is_refused_even_where_it_is_a_regular_file(path: Path) -> None:
    path.write_text("input")
    before = os.dup(0)
    try:
        with path.open() as file:
            os.dup2(file.fileno(), 0)
        with open(0) as standard_input, pytest.raises(UnsupportedError, match="not the program's own"):
            freeze(standard_input, "file")
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_a_descriptor_that_somebody_else_closes_is_refused(path: Path) -> None:
    with path.open("w") as file:
        borrowed = open(file.fileno(), "w", closefd=False)  # noqa: SIM115 - it is not the one to close it
        with pytest.raises(UnsupportedError, match="not the program's own"):
            freeze(borrowed, "file")


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_loop_over_lines_is_told_what_to_do(path: Path, mode: str) -> None:
    path.write_text("a\nb\nc\n")
    lines = []
    with path.open(mode) as file:
        for line in file:
            with pytest.raises(UnsupportedError, match="readline"):
                freeze(file, "file")
            lines.append(line)
    assert lines == ["a\n", "b\n", "c\n"]


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_file_that_another_thread_writes_is_saved_whole_and_not_disturbed(
    path: Path, reopened: Reopened, mode: str
) -> None:
    lines = [f"line {number}\n" * 5 for number in range(20000)]
    expected = "".join(lines).encode()
    saved: list[FrozenState] = []
    with path.open(mode, buffering=512) as file:
        started = threading.Event()

        def write() -> None:
            for line in lines:
                file.write(line.encode() if mode == "wb" else line)
                started.set()

        thread = threading.Thread(target=write)
        thread.start()
        started.wait()
        while thread.is_alive() or not saved:
            saved.append(freeze(file, "file"))
        thread.join()
    assert path.read_bytes() == expected
    for frozen in saved[:: max(1, len(saved) // 5)]:
        again = reopened(frozen)
        contents = path.read_bytes()
        assert expected.startswith(contents)
        assert again.tell() <= len(contents)


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_position_in_the_middle_of_a_write_counts_nothing_twice(
    path: Path, reopened: Reopened, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(open_files, "_ATTEMPTS", 1)
    is_written = threading.Event()

    class SlowFile(io.FileIO):
        def write(self, data: Buffer) -> int:
            nbytes = super().write(data)
            is_written.set()
            time.sleep(0.3)
            return nbytes

    writer = io.BufferedWriter(SlowFile(path, "w"), 512)
    with io.TextIOWrapper(writer) if mode == "w" else writer as file:
        text: Any = "x" * 512
        file.write(text if mode == "w" else text.encode())
        thread = threading.Thread(target=file.flush)
        thread.start()
        assert is_written.wait(PATIENCE_S)
        frozen = freeze(file, "file")
        thread.join()
    assert reopened(frozen).tell() == len(path.read_bytes()) == 512


class Decoding:
    """A codec like UTF-8 that can be held up: `meanwhile` is called once, in the middle of the second block."""

    name = "held-up-utf-8"

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] | None = None
        self._blocks = 0

    def decode(self, data: bytes, errors: str = "strict", final: bool = False) -> tuple[str, int]:
        self._blocks += 1
        if self._blocks == 2 and self.meanwhile is not None:
            self.meanwhile()
        return codecs.utf_8_decode(data, errors, final)

    def find(self, name: str) -> codecs.CodecInfo | None:
        decoding = self

        class Decoder(codecs.BufferedIncrementalDecoder):
            def _buffer_decode(self, data: bytes, errors: str, final: bool) -> tuple[str, int]:  # type: ignore[override]
                return decoding.decode(data, errors, final)

        if name.replace("_", "-") != self.name:
            return None
        return codecs.CodecInfo(
            codecs.utf_8_encode, self.decode, incrementaldecoder=Decoder, incrementalencoder=codecs.IncrementalEncoder
        )


@pytest.fixture
def decoding() -> Iterator[Decoding]:
    decoding = Decoding()
    find = decoding.find  # one object: that is how it is found again
    codecs.register(find)
    yield decoding
    codecs.unregister(find)


TEXT = "".join(f"{number}: {'äx' * (number % 97)}\n" for number in range(300))


@pytest.mark.parametrize("reads_in_main_thread", [True, False])
def test_a_text_that_is_just_being_decoded_is_saved_at_a_true_position_and_not_disturbed(
    path: Path, reopened: Reopened, decoding: Decoding, reads_in_main_thread: bool
) -> None:
    path.write_text(TEXT, encoding="utf-8")
    in_the_middle, go_on = threading.Event(), threading.Event()
    pieces: list[str] = []
    saved: list[FrozenState] = []

    def hold_up() -> None:
        in_the_middle.set()
        go_on.wait(60)

    def save() -> None:
        in_the_middle.wait(60)
        timer.start()
        saved.append(freeze(file, "file"))

    def read() -> None:
        pieces.extend(iter(lambda: file.read(37), ""))

    timer = threading.Timer(0.05, go_on.set)
    decoding.meanwhile = hold_up
    with path.open(encoding=decoding.name) as file:
        threads = [threading.Thread(target=save), *([] if reads_in_main_thread else [threading.Thread(target=read)])]
        for thread in threads:
            thread.start()
        if reads_in_main_thread:
            read()
        for thread in (*threads, timer):
            thread.join()
    assert "".join(pieces) == TEXT
    again = reopened(saved[0])
    rest = again.read()
    assert TEXT.endswith(rest)
    assert again.encoding == decoding.name


def test_a_signal_that_comes_while_text_is_decoded_cannot_save_the_file_and_disturbs_nothing(
    path: Path, decoding: Decoding
) -> None:
    path.write_text(TEXT, encoding="utf-8")
    errors: list[Exception] = []

    def save(*_: object) -> None:
        try:
            freeze(file, "file")
        except UnsupportedError as error:
            errors.append(error)

    before = signal.signal(signal.SIGUSR1, save)
    try:
        decoding.meanwhile = lambda: signal.raise_signal(signal.SIGUSR1)
        with path.open(encoding=decoding.name) as file:
            pieces = list(iter(lambda: file.read(37), ""))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "".join(pieces) == TEXT
    assert len(errors) == 1
    assert "is being read" in str(errors[0])


def test_saving_leaves_the_switching_of_threads_as_it_was(path: Path) -> None:
    path.write_text(TEXT, encoding="utf-8")
    before_s = sys.getswitchinterval()
    with path.open(encoding="utf-8") as file:
        file.read(100)
        freeze(file, "file")
    assert sys.getswitchinterval() == before_s


def test_a_file_in_a_folder_that_takes_no_new_ones_is_rewritten_in_place(
    path: Path, reopened: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    with path.open("w") as file:
        file.write("hello")
        frozen = freeze(file, "file")
        file.write("more")
    inode = path.stat().st_ino

    def refuse(**_: Any) -> None:
        raise PermissionError(errno.EACCES, "no new files here")  # which root would not hear

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert reopened(frozen).tell() == 5
    assert path.read_text() == "hello"
    assert path.stat().st_ino == inode


def test_a_failure_leaves_the_file_and_nothing_beside_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("w") as file:
        file.write("hello")
        frozen = freeze(file, "file")
        file.write("more")

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is broken"):
        thaw(frozen, key="file", source="memory", distrust=None)
    assert path.read_text() == "hellomore"
    assert left_behind(path.parent) == ["test.txt"]

"""What every storage has to do, as tests. Needs pytest.

Whoever writes a storage for another kind of URL subclasses `StorageConformance` in a test file, with a fixture::

    from sucrose.storage.objects import open_storage
    from sucrose.testing.storage import StorageConformance

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def storage(self, tmp_path):
            with open_storage(f"mine://{tmp_path}") as storage:
                yield storage

The fixture gives a `Storage` with nothing in it that may be written to, a new one for each test.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sucrose.errors import CorruptionError, ObjectExistsError, ObjectNotFoundError, StorageError
from sucrose.storage.objects import Storage

_NAMES = ("plain", "data/0_0.safetensors", ".snapshot_metadata", "objects/0/a b+c%20&=?#é", "deep/er/and/deeper")
_OUTSIDE = ("", "/etc/passwd", "../other", "a/../../other", "a//b", "a/", "./a", "nul\0byte", "\ud800")


class StorageConformance:
    """Tests of a `Storage`; the fixture `storage` is the subclass's."""

    many = 2_100
    """Files of the test of long listings; more than two pages of a store that gives 1,000 at a time."""

    tells_of_abandoned_uploads = True
    """Whether `abandoned_uploads` finds what a dead writer has left; false where such a thing leaves nothing."""

    shares_parts_by_name = False
    """Whether the parts of an upload belong to the file's name, so that of two to one name only one succeeds."""

    puts_exclusively = True
    """Whether of several that put a file with `if_absent` at one time only one succeeds."""

    @pytest.mark.parametrize("name", _NAMES, ids=range(len(_NAMES)))
    def test_what_was_put_is_read_back(self, storage: Storage, name: str) -> None:
        storage.put(name, b"the bytes")
        assert storage.read(name) == b"the bytes"
        assert storage.size(name) == 9
        assert storage.exists(name)
        assert [(found.name, found.nbytes) for found in storage.list()] == [(name, 9)]

    @pytest.mark.parametrize(
        "data", [b"", bytearray(b"abc"), memoryview(b"abcdef")[1:3]], ids=["none", "array", "view"]
    )
    def test_any_kind_of_bytes_can_be_put(self, storage: Storage, data: bytes) -> None:
        storage.put("a", data)
        assert storage.read("a") == bytes(data)
        assert storage.size("a") == len(data)

    def test_a_file_that_is_put_again_is_replaced(self, storage: Storage) -> None:
        storage.put("a", b"the old and longer one")
        storage.put("a", b"new")
        assert storage.read("a") == b"new"

    def test_a_file_that_is_put_only_where_there_is_none_replaces_none(self, storage: Storage) -> None:
        storage.put("folder/a", b"first", if_absent=True)
        with pytest.raises(ObjectExistsError) as raised:
            storage.put("folder/a", b"second", if_absent=True)
        assert isinstance(raised.value, FileExistsError)
        assert raised.value.errno == errno.EEXIST
        assert raised.value.path == f"{storage.url}/folder/a"
        assert storage.read("folder/a") == b"first"
        storage.delete(["folder/a"])
        storage.put("folder/a", b"", if_absent=True)
        assert storage.read("folder/a") == b""

    def test_of_many_that_put_a_file_where_there_is_none_one_succeeds(self, storage: Storage) -> None:
        if not self.puts_exclusively:
            pytest.skip("the store writes, whatever is there")

        def put(number: int) -> int | None:
            try:
                storage.put("a", str(number).encode(), if_absent=True)
            except FileExistsError:
                return None
            return number

        with ThreadPoolExecutor(8) as threads:
            (winner,) = (number for number in threads.map(put, range(16)) if number is not None)
        assert storage.read("a") == str(winner).encode()

    def test_a_file_that_is_not_there_is_a_file_not_found_error_with_its_url(self, storage: Storage) -> None:
        storage.put("a/b", b"x")
        for look in (storage.read, storage.size, lambda name: storage.read_part(name, 0, 1)):
            for name in ("missing", "a", "a/b/c"):
                with pytest.raises(ObjectNotFoundError) as raised:
                    look(name)
                assert isinstance(raised.value, FileNotFoundError)
                assert raised.value.errno == errno.ENOENT
                assert raised.value.path == f"{storage.url}/{name}"
                assert f"{storage.url}/{name}" in str(raised.value)
                assert not storage.exists(name)

    @pytest.mark.parametrize("name", _OUTSIDE, ids=range(len(_OUTSIDE)))
    def test_a_name_that_leads_out_is_refused(self, storage: Storage, name: str) -> None:
        for use in (
            storage.read,
            storage.size,
            storage.exists,
            storage.upload,
            lambda name: storage.put(name, b"x"),
            lambda name: storage.delete([name]),
        ):
            with pytest.raises(CorruptionError):
                use(name)
        assert list(storage.list()) == []

    def test_a_small_file_that_is_too_long_is_not_read(self, storage: Storage) -> None:
        storage.put("a", b"12345")
        assert storage.read("a", 5) == b"12345"
        with pytest.raises(CorruptionError) as raised:
            storage.read("a", 4)
        assert raised.value.path == f"{storage.url}/a"

    @pytest.mark.parametrize(("offset", "nbytes"), [(0, 100), (0, 1), (99, 1), (17, 60), (40, 0), (100, 0)])
    def test_a_part_of_a_file_is_read(self, storage: Storage, offset: int, nbytes: int) -> None:
        data = bytes(range(100))
        storage.put("a", data)
        assert storage.read_part("a", offset, nbytes) == data[offset : offset + nbytes]
        memory = bytearray(b"\xff" * (nbytes + 2))
        storage.read_into("a", offset, memoryview(memory)[1 : nbytes + 1])
        assert memory == b"\xff" + data[offset : offset + nbytes] + b"\xff"

    @pytest.mark.parametrize(("offset", "nbytes"), [(0, 101), (99, 2), (100, 1), (5_000, 1)])
    def test_a_part_that_goes_beyond_the_end_is_an_error(self, storage: Storage, offset: int, nbytes: int) -> None:
        storage.put("a", bytes(100))
        with pytest.raises(CorruptionError) as raised:
            storage.read_part("a", offset, nbytes)
        assert raised.value.path == f"{storage.url}/a"

    def test_nothing_can_be_read_from_an_empty_file(self, storage: Storage) -> None:
        storage.put("a", b"")
        assert storage.read_part("a", 0, 0) == b""
        with pytest.raises(CorruptionError):
            storage.read_part("a", 0, 1)

    def test_parts_of_one_file_are_read_by_many_threads(self, storage: Storage) -> None:
        data = _noise(1 << 20)
        storage.put("a", data)
        offsets = range(0, len(data), 1 << 16)
        with ThreadPoolExecutor(8) as threads:
            parts = threads.map(lambda offset: storage.read_part("a", offset, 1 << 16), offsets)
            assert b"".join(parts) == data

    def test_a_listing_has_the_files_with_the_prefix(self, storage: Storage) -> None:
        names = ["b", "a/2", "a/1", "a.b", "a/c/d", "ab"]
        for name in names:
            storage.put(name, name.encode())
        assert sorted(found.name for found in storage.list()) == sorted(names)
        assert sorted(found.name for found in storage.list("a/")) == ["a/1", "a/2", "a/c/d"]
        assert sorted(found.name for found in storage.list("a")) == ["a.b", "a/1", "a/2", "a/c/d", "ab"]
        assert list(storage.list("nothing/")) == []

    def test_folders_are_those_that_lie_directly_in_one(self, storage: Storage) -> None:
        for name in ("step_1/a", "step_1/data/b", "step_20/a", "file", "other/step_3/a"):
            storage.put(name, b"x")
        assert sorted(storage.folders()) == ["other", "step_1", "step_20"]
        assert list(storage.folders("other")) == ["step_3"]
        assert list(storage.folders("file")) == []
        assert list(storage.folders("nothing")) == []

    def test_a_listing_is_complete_however_long(self, storage: Storage) -> None:
        names = [f"step_{number:05d}/a" for number in range(self.many)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda name: storage.put(name, b"x"), names))
        assert sorted(found.name for found in storage.list()) == names
        assert sorted(storage.folders()) == [name.partition("/")[0] for name in names]
        storage.delete(names[1:])
        assert [found.name for found in storage.list()] == names[:1]

    def test_a_storage_within_another_has_the_files_of_its_folder(self, storage: Storage) -> None:
        inner = storage.within("step_1")
        inner.put("a", b"x")
        storage.put("step_10", b"not in it")
        assert inner.url == f"{storage.url}/step_1"
        assert storage.read("step_1/a") == b"x"
        assert [found.name for found in inner.list()] == ["a"]
        with pytest.raises(CorruptionError):
            storage.within("../other")

    def test_what_was_deleted_is_gone_and_may_be_deleted_again(self, storage: Storage) -> None:
        for name in ("a", "a b&c", "keep"):
            storage.put(name, b"x")
        storage.delete(["a", "a b&c", "never/there"])
        storage.delete(["a"])
        storage.delete([])
        assert [found.name for found in storage.list()] == ["keep"]

    def test_parts_become_a_file_in_the_order_of_their_numbers(self, storage: Storage) -> None:
        parts = self._parts(storage, 4)
        with storage.upload("a/b", nbytes=sum(map(len, parts))) as upload:
            if storage.limits.is_ordered:
                for number, part in enumerate(parts, 1):
                    upload.write_part(number, part)
            else:
                for number in (3, 1, 4, 2):
                    upload.write_part(number, parts[number - 1])
            assert not storage.exists("a/b")
            assert list(storage.list()) == []
            upload.complete()
        assert _digest([storage.read("a/b")]) == _digest(parts)
        assert [(found.name, found.nbytes) for found in storage.list()] == [("a/b", sum(map(len, parts)))]

    def test_parts_are_written_by_many_threads(self, storage: Storage) -> None:
        parts = self._parts(storage, 7)
        with storage.upload("a") as upload, ThreadPoolExecutor(4) as threads:
            list(threads.map(upload.write_part, range(1, 8), parts))
            upload.complete()
        assert _digest([storage.read("a")]) == _digest(parts)

    def test_a_part_may_lie_in_pieces(self, storage: Storage) -> None:
        data = _noise(100_000)
        with storage.upload("a") as upload:
            upload.write_part(1, [data[:1], b"", memoryview(data)[1:70_000], bytearray(data[70_000:])])
            upload.complete()
        assert storage.read("a") == data

    def test_an_upload_without_parts_makes_an_empty_file(self, storage: Storage) -> None:
        with storage.upload("a") as upload:
            upload.complete()
        assert storage.read("a") == b""

    def test_an_upload_that_is_not_completed_leaves_no_file_and_an_older_one_in_place(self, storage: Storage) -> None:
        storage.put("a", b"older")
        with storage.upload("a") as upload:
            upload.write_part(1, b"newer")
        assert storage.read("a") == b"older"
        assert list(storage.abandoned_uploads(older_than_s=0)) == []
        with pytest.raises(StorageError):
            upload.write_part(2, b"too late")

    def test_an_upload_replaces_an_older_file_when_it_is_completed(self, storage: Storage) -> None:
        storage.put("a", b"older")
        with storage.upload("a") as upload:
            upload.write_part(1, b"newer")
            assert storage.read("a") == b"older"
            upload.complete()
        assert storage.read("a") == b"newer"

    def test_an_upload_with_a_hole_is_not_completed(self, storage: Storage) -> None:
        if storage.limits.is_ordered:
            pytest.skip("parts are written in order")
        with storage.upload("a") as upload:
            upload.write_part(2, b"second")
            with pytest.raises(ValueError, match="missing"):
                upload.complete()
        assert not storage.exists("a")

    def test_two_uploads_of_one_name_do_not_mix(self, storage: Storage) -> None:
        if self.shares_parts_by_name:
            pytest.skip("the store keeps the parts of one upload for each name")
        with storage.upload("a") as one, storage.upload("a") as other:
            one.write_part(1, b"one")
            other.write_part(1, b"the other")
            one.complete()
            other.complete()
        assert storage.read("a") == b"the other"

    def test_abandoned_uploads_are_found_by_their_age_and_aborted(self, storage: Storage) -> None:
        if not self.tells_of_abandoned_uploads:
            pytest.skip("such uploads leave nothing")
        inner = storage.within("step_1")
        upload = inner.upload("data/a")
        upload.write_part(1, b"never completed")
        assert [(found.name, found.begun is not None) for found in inner.abandoned_uploads(older_than_s=0)] == [
            ("data/a", True)
        ]
        assert [found.name for found in storage.abandoned_uploads(older_than_s=0)] == ["step_1/data/a"]
        assert list(storage.within("step_2").abandoned_uploads(older_than_s=0)) == []
        assert storage.abort_abandoned(older_than_s=3_600) == 0
        assert storage.abort_abandoned(older_than_s=0) == 1
        assert list(storage.abandoned_uploads(older_than_s=0)) == []
        with pytest.raises((StorageError, ValueError)):
            upload.complete()
        upload.abort()
        assert list(storage.list()) == []

    def _parts(self, storage: Storage, count: int) -> list[bytes]:
        """As small as the store takes them, the last one smaller."""
        nbytes = max(storage.limits.min_nbytes, 70_000)
        return [_noise(nbytes + number, number) for number in range(count - 1)] + [_noise(1234, count)]


def _noise(nbytes: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(f"{seed}".encode()).digest(nbytes)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()

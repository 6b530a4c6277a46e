"""Any other URL, through fsspec's plain interface: ``file://`` here."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fsspec")

from sucrose.errors import StorageError
from sucrose.storage.objects import Storage, open_storage
from sucrose.testing.storage import StorageConformance


class TestFiles(StorageConformance):
    tells_of_abandoned_uploads = False
    puts_exclusively = False

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        with open_storage(f"file://{tmp_path}/run") as storage:
            yield storage


def test_an_upload_that_is_aborted_leaves_no_temporary_file(tmp_path: Path) -> None:
    with open_storage(f"file://{tmp_path}/run") as storage, storage.upload("a") as upload:
        upload.write_part(1, b"x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_system_that_cannot_write_says_that_it_may_be_for_reading_only() -> None:
    with (
        open_storage("https://store.example/run") as storage,
        pytest.raises(StorageError, match="reading only") as raised,
    ):
        storage.put("a", b"x")
    assert raised.value.errno == errno.EOPNOTSUPP
    assert raised.value.path == "https://store.example/run/a"

"""Any other URL that fsspec knows, through the plain interface of its file systems: one writer, in order.

Time-outs and retries of reads are those of `ObjectStorage` as well as the file system's own. A part that has failed is
not sent again: what of it has been written nobody knows. A transfer that stalls ends when the file system says so.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, final

from sucrose.errors import ConfigError, MissingExtraError
from sucrose.storage.objects.backend import Backend, ListedKey, Page, PendingUpload
from sucrose.storage.objects.base import PartLimits
from sucrose.storage.objects.client_options import unknown_option
from sucrose.storage.objects.failures import examine, storage_error
from sucrose.storage.objects.object_storage import ObjectStorage
from sucrose.storage.objects.options import StorageOptions


@final
class FsspecBackend(Backend):
    """Files below one path of a file system.

    Args:
        fs: the file system.
        root: path of the folder that keys begin in.
        part_nbytes: how much the file system may hold back before it writes.
        is_read_only: whether nothing may be written.
    """

    limits = PartLimits(is_ordered=True, max_count=1_000_000)
    are_parts_repeatable = False

    def __init__(self, fs: Any, root: str, part_nbytes: int, *, is_read_only: bool = False) -> None:
        self._fs = fs
        self._root = root.rstrip("/")
        self._part_nbytes = part_nbytes
        self.is_read_only = is_read_only
        self._lock = threading.Lock()
        self._open: dict[str, Any] = {}  # by the upload's name

    def fetch(self, key: str, max_nbytes: int | None) -> bytes:
        end = None if max_nbytes is None else max_nbytes + 1
        data: bytes = self._fs.cat_file(self._path(key), start=None if end is None else 0, end=end)
        return data

    def fetch_into(self, key: str, offset: int, into: memoryview) -> int:
        size = self.size(key)  # not every file system takes a range behind the end
        end = min(offset + into.nbytes, size)
        if offset >= end:
            return 0
        data: bytes = self._fs.cat_file(self._path(key), start=offset, end=end)
        into[: len(data)] = data
        return len(data)

    def size(self, key: str) -> int:
        info = self._fs.info(self._path(key))
        if info["type"] != "file":
            raise FileNotFoundError(2, "it is a folder", key)
        return int(info["size"])

    def page(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        folder = prefix.rpartition("/")[0]
        path = f"{self._root}/{folder}".rstrip("/")
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(path, detail=True) if by_folder else self._fs.find(path, detail=True).values()
        except FileNotFoundError:
            return Page()
        keys = {self._key(info["name"]): info for info in found}
        objects = [
            ListedKey(key=key, nbytes=int(keys[key]["size"] or 0), modified=self._modified(keys[key]))
            for key in sorted(keys)
            if keys[key]["type"] == "file" and key.startswith(prefix)
        ]
        folders = [f"{key}/" for key in sorted(keys) if keys[key]["type"] == "directory" and key.startswith(prefix)]
        return Page(objects=objects, folders=folders)

    def put(self, key: str, data: memoryview, *, if_absent: bool = False) -> None:
        upload_id = self.begin(key)
        try:
            if data.nbytes:
                self.put_part(key, upload_id, 1, [data])
            self.complete(key, upload_id, ())
        except BaseException:
            with suppress(OSError):
                self.abort(key, upload_id)
            raise

    def begin(self, key: str) -> str:
        path = self._path(key)
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        file = self._fs.open(path, "wb", block_size=self._part_nbytes, autocommit=False)
        upload_id = uuid.uuid4().hex
        with self._lock:
            self._open[upload_id] = file
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, data: Sequence[memoryview]) -> str:
        with self._lock:
            file = self._open[upload_id]
        for piece in data:
            file.write(piece)
        return ""

    def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> None:
        with self._lock:
            file = self._open[upload_id]
        if not file.closed:
            file.close()
        file.commit()
        with self._lock:
            del self._open[upload_id]

    def abort(self, key: str, upload_id: str) -> None:
        with self._lock:
            file = self._open.pop(upload_id, None)
        if file is None:
            return
        if not file.closed:
            file.close()
        file.discard()

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        return iter(())  # file systems have no such notion, or do not tell

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._path(key))

    def close(self) -> None:
        """The file system may be shared; it closes its connections by itself."""

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _key(self, path: str) -> str:
        path = str(path).rstrip("/")
        return path[len(self._root) :].lstrip("/") if path.startswith(self._root) else path.lstrip("/")

    def _modified(self, info: dict[str, Any]) -> Any:
        modified = info.get("mtime") or info.get("created") or info.get("last_modified")
        return modified if hasattr(modified, "tzinfo") else None


def open_url(url: str, options: StorageOptions, *, is_read_only: bool = False) -> ObjectStorage:
    """Any URL of fsspec's."""
    scheme = url.partition("://")[0]
    try:
        from fsspec.core import get_filesystem_class, url_to_fs  # type: ignore[import-untyped, unused-ignore]  # it has no types
    except ImportError as error:
        raise MissingExtraError(
            f"{url!r}: no storage is known for {scheme}:// without fsspec, which is not installed: pip install fsspec",
            path=url,
            extra=None,
        ) from error
    arguments = dict(options.client)
    if options.endpoint:
        arguments["endpoint"] = options.endpoint
    try:
        fs, root = url_to_fs(url, **arguments)
    except TypeError as error:
        named = unknown_option(error, options, get_filesystem_class(scheme.rpartition(":")[2]))
        if named is None:
            raise
        raise named from error
    except ImportError as error:
        raise MissingExtraError(f"{scheme}:// needs another package: {error}", path=url, extra=None) from error
    except ValueError as error:
        raise ConfigError(f"{url!r}: no storage for {scheme}://: {error}", path=url) from error
    except OSError as error:  # some connect at once
        raise storage_error(examine(error), error, "opening", url, attempts=1, elapsed_s=0.0) from error
    backend = FsspecBackend(fs, root, options.part_nbytes, is_read_only=is_read_only)
    return ObjectStorage(backend, url, "", options)

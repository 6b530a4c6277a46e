"""To an object store and back: ours from memory, and what transfers a file that is there already."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import Contender
from benchmarks.contenders.dcp import DistributedCheckpoint
from benchmarks.contenders.sucrose_snapshot import SucroseSnapshot
from benchmarks.object_server import URL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


def url_of(path: Path) -> str:
    """Where a contender's object goes, or its folder of objects."""
    return f"{os.environ[URL_VARIABLE].rstrip('/')}/{path.name}"


class SucroseOnObjectStore(SucroseSnapshot):
    name = "sucrose, S3"
    note = "Snapshot.take to a new URL each time, and restore, digests written and checked; restores in place"

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def save(self, state: State, path: Path) -> None:
        self._count += 1
        self._snapshot.take(self._url(path), self._app_state(state))

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        target = self._state_dict(**state)
        self._snapshot(self._url(path)).restore({"state": target})
        return dict(target)

    def _url(self, path: Path) -> str:
        return f"{url_of(path)}/step_{self._count}"


class _Transfer(Contender):
    """Of one file: written before the first transfer, and only mapped after a load, so that neither takes time."""

    durable = True

    def __init__(self) -> None:
        self._torch = import_module("torch")

    def save(self, state: State, path: Path) -> None:
        source = path.with_suffix(".source")
        if not source.exists():
            self._torch.save(dict(state), source)
        self._put(str(source), url_of(path))

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        path.unlink(missing_ok=True)
        self._get(url_of(path), str(path))
        loaded: Mapping[str, Tensor] = self._torch.load(path, mmap=True)
        return loaded

    def _put(self, source: str, url: str) -> None:
        raise NotImplementedError

    def _get(self, url: str, target: str) -> None:
        raise NotImplementedError


class S3fsTransfer(_Transfer):
    name = "s3fs"
    distribution = "s3fs"
    note = "S3FileSystem.put and get of a file in memory with the same bytes; no digests"

    def __init__(self) -> None:
        super().__init__()
        self._fs: Any = import_module("s3fs").S3FileSystem(endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))

    def _put(self, source: str, url: str) -> None:
        self._fs.put_file(source, url)

    def _get(self, url: str, target: str) -> None:
        self._fs.get_file(url, target)


class Boto3Transfer(_Transfer):
    name = "boto3"
    distribution = "boto3"
    peer = "boto3"
    note = "upload_file and download_file of a file in memory with the same bytes, ten threads as it comes; no digests"

    def __init__(self) -> None:
        super().__init__()
        self._client: Any = import_module("boto3").client("s3")

    def _put(self, source: str, url: str) -> None:
        bucket, _, key = url.removeprefix("s3://").partition("/")
        self._client.upload_file(source, bucket, key)

    def _get(self, url: str, target: str) -> None:
        bucket, _, key = url.removeprefix("s3://").partition("/")
        self._client.download_file(bucket, key, target)


class DistributedCheckpointOnObjectStore(DistributedCheckpoint):
    name = "DCP, fsspec"
    durable = True
    note = "torch.distributed.checkpoint with its FsspecWriter and FsspecReader, no_dist=True; restores in place"

    def __init__(self) -> None:
        super().__init__()
        self._fsspec = import_module("torch.distributed.checkpoint._fsspec_filesystem")
        self._options = {"endpoint_url": os.environ.get("AWS_ENDPOINT_URL")}

    def save(self, state: State, path: Path) -> None:
        writer = self._fsspec.FsspecWriter(url_of(path), **self._options)
        self._dcp.save(dict[str, Any](state), storage_writer=writer, no_dist=True)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        reader = self._fsspec.FsspecReader(url_of(path), **self._options)
        self._dcp.load(state, storage_reader=reader, no_dist=True)
        return state

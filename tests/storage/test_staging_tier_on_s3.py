"""The staging tier before a real S3 server: programs that are killed at every point, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bitwise import assert_same
from command_line import CommandLine
from s3_server import BUCKET, S3Server
from warm_python import WarmPython

from sucrose import Snapshot, StateDict, resume_uploads
from sucrose.errors import IncompleteSnapshotError
from sucrose.storage.objects import open_storage
from sucrose.storage.objects.s3 import S3Backend

PART = 5 << 20  # S3 takes no smaller ones
QUICK: dict[str, Any] = {"part_nbytes": PART, "backoff_s": 0.01, "concurrency": 4}

PROGRAM = textwrap.dedent("""
    import json, os, signal, sys
    import torch
    from sucrose import Snapshot, StateDict
    from sucrose.options import override_options
    from sucrose.snapshot.staged_upload import carrying, upload_queue
    from sucrose.storage.local import StagedDirectory
    from sucrose.storage.objects.s3 import S3Backend

    url, options, disk, how = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse():
        raise PermissionError(13, "refused by the test")

    def happen(owner, name, when=lambda *arguments: True, what=die, after=False):
        original = getattr(owner, name)

        def call(*arguments, **named):
            if not after and when(*arguments):
                what()
            answer = original(*arguments, **named)
            if after:
                what()
            return answer

        setattr(owner, name, call)

    def is_record(_, key, *rest):
        return key.endswith("/.snapshot_metadata")

    if how == "before the local commit":
        happen(StagedDirectory, "commit")
    elif how == "before the first object":
        happen(upload_queue, "carry")
    elif how == "in the middle of a file":
        happen(S3Backend, "complete", after=True)
    elif how == "before the commit record":
        happen(S3Backend, "put", is_record)
    elif how == "after the commit record":
        happen(carrying, "note_uploaded")
    elif how == "before the staged copy is removed":
        happen(upload_queue, "remove_copy")
    elif how == "refused":
        happen(S3Backend, "put", is_record, refuse)
    generator = torch.Generator().manual_seed(2)
    state = StateDict(**{f"weights_{i}": torch.randn(6 * 2**20 // 4, generator=generator) for i in range(2)}, step=2)
    with override_options(max_file_nbytes=6 * 2**20 + 4096):
        Snapshot.async_take(url, {"state": state}, storage_options=options, staging_dir=disk, overwrite=True)
    # The program falls off its end.
""")


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    warm = WarmPython("import s3fs, torch")
    yield warm
    warm.close()


@pytest.fixture
def url() -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/step_1"


@pytest.fixture
def options(s3_server: S3Server) -> dict[str, Any]:
    return s3_server.storage_options(**QUICK)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often files, or parts of them, are put by this process, by their keys."""
    counts: Counter[str] = Counter()
    for method in ("put", "put_part"):
        original = getattr(S3Backend, method)

        def counting(self: S3Backend, key: str, *rest: Any, original: Any = original, **named: Any) -> Any:
            counts[key] += 1
            return original(self, key, *rest, **named)

        monkeypatch.setattr(S3Backend, method, counting)
    return counts


def assert_is_there(url: str, options: dict[str, Any]) -> None:
    snapshot = Snapshot(url, storage_options=options)
    generator = torch.Generator().manual_seed(2)
    for i in range(2):
        expected = torch.randn(6 * 2**20 // 4, generator=generator)
        assert_same(snapshot.read_object(f"0/state/weights_{i}"), expected)
    with open_storage(url, options) as storage:
        assert list(storage.abandoned_uploads(0)) == []
        assert len(list(storage.list())) == 4


@pytest.mark.parametrize(
    ("how", "whole"),
    [
        ("before the first object", 0),
        ("in the middle of a file", 1),
        ("before the commit record", 2),
        ("after the commit record", 2),
        ("before the staged copy is removed", 2),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else f"whole-{value}",
)
def test_a_program_that_is_killed_leaves_what_the_next_one_brings_to_its_end(
    url: str, options: dict[str, Any], tmp_path: Path, python: WarmPython, sent: Counter[str], how: str, whole: int
) -> None:
    is_committed = (whole == 2 and "record" not in how) or how.startswith("after")
    Snapshot.take(url, {"state": StateDict(step=1)}, storage_options=options)
    killed = python.run(PROGRAM, [url, json.dumps(options), str(tmp_path), how], os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Snapshot(url, storage_options=options).read_object("0/state/step") == (2 if is_committed else 1)
    with open_storage(url, options) as storage:
        before = {found.name for found in storage.list("data/")}
    assert whole <= len(before) <= max(whole, 2 * (how == "in the middle of a file"))
    sent.clear()
    assert resume_uploads(tmp_path, options) == (() if how.startswith("before the staged") else (url,))
    assert_is_there(url, options)
    sent_again = {key[key.index("/step_1/") + len("/step_1/") :] for key in sent}
    assert not sent_again & before
    assert len([name for name in sent_again if name.startswith("data/")]) == 2 - len(before)
    assert len([name for name in sent_again if name.startswith(".snapshot")]) == (0 if is_committed else 2)
    assert list(tmp_path.iterdir()) == []


def test_a_take_that_never_came_to_its_local_commit_is_not_uploaded(
    url: str, options: dict[str, Any], tmp_path: Path, python: WarmPython, sent: Counter[str]
) -> None:
    arguments = [url, json.dumps(options), str(tmp_path), "before the local commit"]
    assert python.run(PROGRAM, arguments, os.environ).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert resume_uploads(tmp_path, options) == ()
    assert not sent
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IncompleteSnapshotError):
        _ = Snapshot(url, storage_options=options).metadata


def test_a_program_that_falls_off_its_end_has_uploaded_everything(
    url: str, options: dict[str, Any], tmp_path: Path, python: WarmPython
) -> None:
    ended = python.run(PROGRAM, [url, json.dumps(options), str(tmp_path), "left"], os.environ)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert_is_there(url, options)
    assert list(tmp_path.iterdir()) == []


def test_a_program_whose_upload_fails_says_so_at_its_end_and_the_command_goes_on(
    url: str, options: dict[str, Any], tmp_path: Path, python: WarmPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = python.run(PROGRAM, [url, json.dumps(options), str(tmp_path), "refused"], os.environ)
    assert ended.returncode > 0
    assert f"sucrose upload {tmp_path}" in ended.stderr
    command_line = CommandLine("import s3fs")
    try:
        lacks_key = command_line.run("upload", tmp_path)
        assert lacks_key.returncode == 1
        assert lacks_key.stderr.count("\n") == 1
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])  # the note has the endpoint
        done = command_line.run("upload", tmp_path, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {"uploaded": [url]}
        assert command_line.run("upload", tmp_path).stdout == "nothing to upload\n"
    finally:
        command_line.close()
    assert_is_there(url, options)
    assert list(tmp_path.iterdir()) == []

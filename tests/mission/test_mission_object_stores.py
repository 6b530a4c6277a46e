"""The document's sample for object stores runs as it stands there, on servers of the tests' own; gs:// likewise."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bitwise import assert_same
from gcs_server import GcsServer
from s3_server import ACCESS_KEY, SECRET_KEY, S3Server

DOCUMENT = Path(__file__).resolve().parent / "snapshot.rst"


def block_for_object_stores() -> str:
    """The one that takes a snapshot to s3://."""
    blocks = re.findall(r"\.\. code-block:: Python\n\n((?:    .*\n|\n)+)", DOCUMENT.read_text())
    (found,) = [block for block in blocks if "s3://" in block]
    return textwrap.dedent(found)


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """S3 as the variables of the vendor's tools name it."""
    server = S3Server(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    yield
    server.close()


@pytest.fixture
def gs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Google's store in the same way."""
    server = GcsServer(tmp_path)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
    yield
    server.close()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_the_documents_snapshot_in_an_object_store_restores(scheme: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(scheme)
    from torchsnapshot import Snapshot, StateDict

    torch.manual_seed(1)
    model, extra_state = torch.nn.Linear(4, 2), StateDict(iterations=3)
    names = {"Snapshot": Snapshot, "app_state": {"model": model, "extra_state": extra_state}}
    exec(block_for_object_stores().replace("s3://", f"{scheme}://"), names)
    saved = {key: value.clone() for key, value in model.state_dict().items()}
    extra_state["iterations"] = 0
    with torch.no_grad():
        model.weight.zero_()
    Snapshot(path=f"{scheme}://bucket/path/to/my/snapshot").restore(app_state=names["app_state"])
    assert_same(dict(model.state_dict()), saved)
    assert extra_state["iterations"] == 3

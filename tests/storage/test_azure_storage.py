"""``az://`` on a server of the tests' own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from azure_server import ACCOUNT, CONTAINER, KEY, AzureServer

from sucrose.errors import ConfigError
from sucrose.storage.objects import Storage, open_storage
from sucrose.testing.storage import StorageConformance


class TestAzure(StorageConformance):
    shares_parts_by_name = True

    @pytest.fixture
    def storage(self, azure_server: AzureServer) -> Iterator[Storage]:
        with open_storage(f"az://{CONTAINER}/{uuid.uuid4().hex}", azure_server.storage_options()) as storage:
            yield storage


def test_the_variable_of_the_vendors_client_is_honoured(
    azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={azure_server.endpoint};"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    with open_storage(f"abfs://{CONTAINER}/{uuid.uuid4().hex}") as storage:
        storage.put("a", b"x")
        assert storage.read("a") == b"x"


def test_without_an_account_it_is_said_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("adlfs")
    for variable in [name for name in os.environ if name.startswith("AZURE_STORAGE_")]:
        monkeypatch.delenv(variable)
    with pytest.raises(ConfigError, match=r"az://container.*account_name"):
        open_storage("az://container/run")

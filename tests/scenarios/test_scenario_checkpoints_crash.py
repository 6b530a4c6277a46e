"""A scenario's checkpoints when their writer is killed, or interrupted by a handler that writes itself."""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scenario_checkpoints import contents_of, names_in, record_of, value_of
from warm_python import WarmPython

from sucrose import Retention
from sucrose.scenarios.checkpoints import CheckpointFolder, list_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

REPOSITORY = Path(__file__).parents[2]
SUPPORT = REPOSITORY / "tests" / "support"
EXTENSIONS = [".pt", ".snapshot"]

WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from sucrose import Retention
from sucrose.scenarios.checkpoints import CheckpointFolder
from scenario_checkpoints import contents_of, names_in, record_of

folder = CheckpointFolder(names_in(Path(sys.argv[1]), sys.argv[2]), Retention(keep_last=2))
loaded = folder.read()
epoch = 0 if loaded is None else loaded.epoch
if epoch > 6:
    epoch = folder.names.epochs()[0]
    folder.read(epoch)
    folder.set_aside_after(epoch)
print("begins at", epoch, "\\nwrite 0", flush=True)
for number in range(1, 1_000_000):
    folder.write(contents_of(epoch + 0.5, 200_000), record_of(epoch, is_mid_epoch=True))
    epoch += 1
    folder.write(contents_of(epoch, 200_000), record_of(epoch))
    folder.wait()
    print("written", epoch, "\\nwrite", number, flush=True)
"""


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    server = WarmPython("import torch, sucrose.scenarios.checkpoints.folder")
    yield server
    server.close()


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_writer_that_is_killed_loses_nothing_that_it_has_written(
    tmp_path: Path, python: WarmPython, extension: str
) -> None:
    chance = random.Random(extension)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "python"), "HOME": str(tmp_path)}
    folder, names = tmp_path / "ckpts", names_in(tmp_path / "ckpts", extension)
    begun = []
    for _ in range(15):
        program = python.start(WRITER, [str(folder), extension, str(SUPPORT)], environment)
        program.wait_for(f"write {chance.randrange(4)}")
        time.sleep(chance.uniform(0.0, 0.05))
        program.send(9)
        done = program.wait()
        assert done.stderr.count("Error") == 0
        begun.append(int(re.findall(r"begins at (\d+)", done.stdout)[-1]))
        written = [int(epoch) for epoch in re.findall(r"written (\d+)", done.stdout)] or begun[-1:]
        listed = list_checkpoints(names)
        assert [info.path for info in listed if info.problem is not None] == []
        if listed:
            assert listed[-1].epoch >= written[-1]
            assert len(names.epochs()) <= 4  # two that are kept, and what a death left between commit and removal
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy)
            loaded = CheckpointFolder(names_in(copy, extension), Retention()).read()
            assert loaded is not None
            assert value_of(loaded.contents) == loaded.epoch + (0.5 if loaded.is_mid_epoch else 0)
            assert not (copy / "quarantine").exists()
            shutil.rmtree(copy)
    assert len(set(begun)) > 2  # it got somewhere
    last = CheckpointFolder(names, Retention(keep_last=1))
    epoch = names.newest() + 1
    last.write(contents_of(epoch), record_of(epoch))
    last.wait()
    left = [name for name in os.listdir(folder) if not name.startswith("superseded-")]
    assert left == [f"base_case1_e{epoch}{extension}"]


class AtLine:
    """Calls `handle` once, in this thread, before the line number `moment` of this package that runs."""

    def __init__(self, moment: int, handle: Callable[[], None]) -> None:
        self.came = False
        self._left = moment
        self._handle = handle

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *exception: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: object) -> object:
        if "/sucrose/scenarios/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                self.came = True
                sys.settrace(None)
                self._handle()
        return self._trace


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_handler_may_write_in_the_middle_of_a_write(tmp_path: Path, extension: str) -> None:
    came = True
    moment = 0
    while came:
        moment += 1
        folder = CheckpointFolder(names_in(tmp_path / str(moment), extension), Retention(keep_last=2))
        for epoch in (1, 2, 3):
            folder.write(contents_of(epoch), record_of(epoch))

        def handle(folder: CheckpointFolder = folder) -> None:
            folder.write(contents_of(4.0), record_of(4))
            folder.wait()

        at = AtLine(moment, handle)
        with at:
            folder.write(contents_of(4.0), record_of(4))
        came = at.came
        loaded = folder.read()
        assert loaded is not None
        assert value_of(loaded.contents) == 4.0
        assert folder.names.epochs()[-2:] == [3, 4]
        assert [name for name in os.listdir(folder.names.folder) if name.startswith(".")] == []
        shutil.rmtree(folder.names.folder)
    assert moment > 20

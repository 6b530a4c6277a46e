"""`sucrose ls` and `sucrose gc`, as people and scripts start them."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from command_line import CommandLine

import sucrose
from sucrose import Catalog, Snapshot, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.catalog.checked_listing import checked_listing
from sucrose.catalog.local.directory import LocalCatalogDirectory
from sucrose.errors import FormatVersionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sucrose.catalog.generation import Generation

REPOSITORY = Path(__file__).parents[2]
ENTRY_POINT = re.search(
    r'^\[project\.scripts\]\nsucrose = "([\w.]+):(\w+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE
)


COMMAND_LINE = CommandLine()
PROGRAM = ("-m", "sucrose")


@pytest.fixture(scope="module", autouse=True)
def _command_line() -> Iterator[None]:
    yield
    COMMAND_LINE.close()


def run(
    *arguments: str | Path, program: Sequence[str] = PROGRAM, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in which torch is not imported."""
    if (program, encoding) == (PROGRAM, "utf-8"):
        return COMMAND_LINE.run(*arguments)
    home = str(REPOSITORY / "no-such-home")
    paths = {"PYTHONPATH": str(REPOSITORY / "python"), "HOME": home, "XDG_STATE_HOME": home}
    environment = {**os.environ, **paths, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-W", "error", *program, *map(str, arguments)],
        env=environment,
        capture_output=True,
        encoding=encoding,
        check=False,
        timeout=120,
    )


def errors_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What it wrote to stderr, after checking that it has not imported torch."""
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "torch" not in imported
    return [line for line in lines if not line.startswith("import time:")]


def succeed(*arguments: str | Path, encoding: str = "utf-8") -> str:
    done = run(*arguments, encoding=encoding)
    assert (done.returncode, errors_of(done)) == (0, [])
    return done.stdout


def read(*arguments: str | Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(succeed(*arguments, "--json"))
    return content


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(tmp_path / "a folder")
    catalog.save(9999, {"state": StateDict(value=1)}, metrics={"loss": 0.5, "accuracy[%]": float("nan")})
    catalog.save(10000, {"state": StateDict(value=2)}, metrics={"loss": 0.25}, pinned=True)
    catalog.save(10001, {"state": StateDict(value=3)}, metrics={"loss": 0.75})
    return catalog


def leave_something(catalog: Catalog) -> Path:
    assert COLLECTOR.wait_idle(60)  # it would take it away at once
    path = Path(catalog.root, f".step_1-0123abcd.tmp-{7:032x}")
    path.mkdir()
    return path


def test_ls_lists_generations_from_the_oldest_to_the_newest(catalog: Catalog) -> None:
    lines = succeed("ls", catalog.root).splitlines()
    head, *rows = lines
    assert head.split() == ["step", "committed", "size", "state", "name", "metrics"]
    assert [row.split()[0] for row in rows] == ["9999", "10000", "10001"]
    assert [row.split()[5] for row in rows] == [generation.id for generation in catalog.generations()]
    assert rows[0].endswith("loss=0.5 accuracy[%]=nan")
    assert [row.split()[4] for row in rows] == ["complete", "pinned", "complete"]
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +\d+ B ", rows[0])


def test_ls_tells_programs_the_same(catalog: Catalog) -> None:
    content = read("ls", catalog.root)
    assert content["root"] == catalog.root
    for listed, generation in zip(content["generations"], catalog.generations(), strict=True):
        assert listed["state"] == "complete"
        for name in ("step", "path", "committed_ns", "nbytes", "pinned", "timeline", "durable"):
            assert listed[name] == getattr(generation, name)
    assert content["generations"][0]["metrics"] == {"loss": 0.5, "accuracy[%]": "nan"}
    assert [content[kind] for kind in ("broken", "quarantined", "leftovers", "foreign")] == [[], [], [], []]


def test_ls_shows_what_is_broken_quarantined_left_over_or_somebody_elses(catalog: Catalog) -> None:
    _, broken, quarantined = catalog.generations()
    Path(quarantined.path, ".snapshot_metadata").unlink()
    assert catalog.latest() == broken
    Path(broken.path, ".generation").write_text("damage\n")
    leftover = leave_something(catalog)
    Snapshot.take(Path(catalog.root, "step_5-20240101"), {"state": StateDict(value=5)})
    content = read("ls", catalog.root)
    assert [generation["step"] for generation in content["generations"]] == [9999]
    assert [entry["name"] for entry in content["broken"]] == [broken.id]
    assert [entry["name"] for entry in content["quarantined"]] == [quarantined.id]
    assert "commit record is missing" in content["quarantined"][0]["reason"]
    assert content["leftovers"] == [{"name": leftover.name, "in_use": False}]
    assert [entry["name"] for entry in content["foreign"]] == ["step_5-20240101"]
    text = succeed("ls", catalog.root)
    for kind in ("broken", "quarantined"):
        assert f"{kind}: {content[kind][0]['name']}: {content[kind][0]['reason']}" in text.splitlines()
    assert f"leftover: {leftover.name}" in text.splitlines()
    assert os.path.isdir(broken.path)  # listing moves nothing


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("data/0_0.safetensors", "No such file"),
        ("data/0_0.safetensors", "has 7 bytes, expected"),
        (".snapshot_index", "No such file"),
        (".snapshot_index", ".snapshot_index"),
        (".snapshot_metadata", "the commit record is missing"),
        (".snapshot_metadata", "is not the one that the index belongs to"),
    ],
)
def test_ls_finds_broken_what_latest_finds_broken(tmp_path: Path, file: str, told: str) -> None:
    catalog = Catalog(tmp_path)
    sound = catalog.save(1, {"state": StateDict(weight=torch.zeros(100))})
    broken = catalog.save(2, {"state": StateDict(weight=torch.zeros(100))})
    path = Path(broken.path, file)
    path.unlink()
    if "No such" not in told and "missing" not in told:
        path.write_text("damage\n")
    content = read("ls", tmp_path)
    assert [generation["name"] for generation in content["generations"]] == [sound.id]
    [entry] = content["broken"]
    assert (entry["name"], entry["path"]) == (broken.id, broken.path)
    assert told in entry["reason"]
    assert content["other_snapshots"] == 0
    lines = succeed("ls", tmp_path).splitlines()
    assert [row.split()[0] for row in lines[1:]] == ["1", "broken:"]
    assert lines[-1] == f"broken: {broken.id}: {entry['reason']}"
    assert os.path.isdir(broken.path)  # listing moves nothing
    assert catalog.latest() == sound
    [quarantined] = catalog.quarantined()
    assert quarantined.reason == entry["reason"]


def test_ls_lists_again_where_a_generation_is_collected_under_its_eyes(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = LocalCatalogDirectory(catalog.root)
    check = directory.check
    collected: list[Generation] = []

    def check_late(generation: Generation, *, contents: bool) -> None:
        if not collected:
            collected.append(generation)
            assert directory.discard(generation)
            catalog.save(10002, {})
        check(generation, contents=contents)

    monkeypatch.setattr(directory, "check", check_late)
    listing = checked_listing(directory)
    assert [generation.step for generation in listing.generations] == [10000, 10001, 10002]
    assert listing.broken == ()


def test_ls_shows_a_generation_that_cannot_be_checked_with_the_reason_and_the_others_as_usual(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, too_new, fine = catalog.generations()
    directory = LocalCatalogDirectory(catalog.root)
    errors = {
        locked.id: PermissionError(errno.EACCES, "Permission denied", locked.path),
        too_new.id: FormatVersionError("a newer release wrote it", path=too_new.path),
    }

    def check(generation: Generation, *, contents: bool) -> None:
        if generation.id in errors:
            raise errors[generation.id]

    monkeypatch.setattr(directory, "check", check)
    listing = checked_listing(directory)
    assert listing.generations == (fine,)
    assert [(broken.name, broken.reason) for broken in listing.broken] == [(locked.id, str(errors[locked.id]))]
    assert [(newer.name, newer.reason) for newer in listing.newer] == [(too_new.id, "a newer release wrote it")]


def test_no_name_reaches_the_terminal_but_as_text(tmp_path: Path) -> None:
    catalog = Catalog(os.path.join(tmp_path, os.fsdecode(b"\x1b]0;title\x07\n\xff")))
    catalog.save(1, {}, metrics={"lo\x1b[31mss\n": 0.5, "λ": 0.25})
    Path(catalog.save(2, {}).path, ".generation").write_text("{\x1b[2J}\n\x1b[2J")
    for arguments in (("ls",), ("gc", "--keep-last", "1", "--dry-run")):
        text = succeed(*arguments, catalog.root)
        assert not set(text) & set("\x1b\x07\udcff")
    text = succeed("ls", catalog.root, encoding="latin-1")
    assert r"lo\x1b[31mss\n=0.5 \u03bb=0.25" in text.splitlines()[1]
    assert read("ls", catalog.root)["root"] == catalog.root
    done = run("ls", Path(catalog.root, ".trash", "no-such"))
    assert done.returncode == 1
    assert "\x1b" not in done.stderr


def test_the_root_may_be_a_url_as_for_catalogs(catalog: Catalog) -> None:
    assert succeed("ls", f"fs://{catalog.root}/") == succeed("ls", catalog.root)
    done = run("ls", f"nowhere://{catalog.root}")
    assert done.returncode == 1
    assert "no storage for nowhere://" in done.stderr


def test_ls_of_a_folder_without_generations_says_so(tmp_path: Path) -> None:
    assert succeed("ls", tmp_path) == "no generations\n"
    assert read("ls", tmp_path)["generations"] == []


def test_ls_counts_snapshots_that_no_catalog_wrote(tmp_path: Path) -> None:
    for name in ("first", "second"):
        Snapshot.take(tmp_path / name, {"state": StateDict(value=1)})
    (tmp_path / "empty").mkdir()
    assert succeed("ls", tmp_path) == "no generations\n2 snapshots here that no catalog wrote\n"
    assert read("ls", tmp_path)["other_snapshots"] == 2
    assert not read("ls", tmp_path)["is_snapshot"]
    generation = Catalog(tmp_path).save(1, {"state": StateDict(value=1)})
    content = read("ls", tmp_path)
    assert [entry["name"] for entry in content["generations"]] == [generation.id]
    assert content["other_snapshots"] == 2
    Path(generation.path, ".generation").unlink()  # a catalog's all the same
    assert read("ls", tmp_path)["other_snapshots"] == 2


def test_ls_of_a_snapshot_points_to_show(tmp_path: Path) -> None:
    path = Catalog(tmp_path / "runs").save(1, {"state": StateDict(value=1)}).path
    assert f"'sucrose show {path}' tells" in succeed("ls", path)
    assert read("ls", path)["is_snapshot"]
    Snapshot.take(tmp_path / "plain", {"state": StateDict(value=1)})
    told = succeed("ls", tmp_path / "plain")
    assert told.startswith("no generations\n1 snapshot here that no catalog wrote\n")
    assert f"'sucrose show {tmp_path / 'plain'}' tells" in told


def test_gc_removes_what_no_rule_keeps(catalog: Catalog, files_below: Any) -> None:
    before = files_below(Path(catalog.root))
    told = read("gc", catalog.root, "--keep-last", "1", "--dry-run")
    text = succeed("gc", catalog.root, "--keep-last", "1", "--dry-run")
    assert files_below(Path(catalog.root)) == before
    [first, _, _] = catalog.generations()
    assert told["removed"] == [{"step": 9999, "name": first.id, "nbytes": first.nbytes}]
    assert f"would remove {first.id}" in text
    done = read("gc", catalog.root, "--keep-last", "1")
    assert done == {**told, "dry_run": False}
    assert catalog.steps() == [10000, 10001]
    assert succeed("gc", catalog.root, "--keep-last", "1") == "nothing to remove\n"


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (("--keep-every", "9999"), [9999, 10000, 10001]),
        (("--keep-best", "loss:1"), [10000, 10001]),
        (("--keep-best", "loss:2:min"), [9999, 10000, 10001]),
        (("--keep-best", "accuracy[%]:3:max"), [10000, 10001]),
        (("--keep-hourly", "1"), [10000, 10001]),
        (("--keep-daily", "1"), [10000, 10001]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_gc_has_all_rules_of_catalogs(catalog: Catalog, rule: tuple[str, str], steps: list[int]) -> None:
    removed = read("gc", catalog.root, *rule)["removed"]
    assert catalog.steps() == steps
    assert {entry["step"] for entry in removed} == {9999, 10000, 10001} - set(steps)


def test_gc_without_rules_removes_leftovers_only(catalog: Catalog) -> None:
    leftover = leave_something(catalog)
    assert f"would remove {leftover.name}" in succeed("gc", catalog.root, "--dry-run")
    assert leftover.exists()
    assert f"removed {leftover.name}" in succeed("gc", catalog.root)
    assert not leftover.exists()
    assert catalog.steps() == [9999, 10000, 10001]


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--keep-last", "1")], ids=" ".join)
def test_gc_by_a_metric_that_no_generation_has_removes_nothing(catalog: Catalog, more: tuple[str, ...]) -> None:
    leftover = leave_something(catalog)
    done = run("gc", catalog.root, "--keep-best", "nosuch:1", *more)
    [line] = errors_of(done)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no generation" in line
    assert "'nosuch'" in line
    assert "'accuracy[%]', 'loss'" in line
    assert catalog.steps() == [9999, 10000, 10001]
    assert leftover.exists()


def test_gc_by_a_metric_is_no_error_where_there_are_no_generations(tmp_path: Path) -> None:
    assert succeed("gc", tmp_path, "--keep-best", "loss:1") == "nothing to remove\n"


def test_the_version_is_the_packages() -> None:
    assert succeed("--version") == f"sucrose {sucrose.__version__}\n"


@pytest.mark.parametrize("command", [(), ("ls",), ("gc",)], ids=" ".join)
def test_help_has_a_short_option(command: tuple[str, ...]) -> None:
    text = succeed(*command, "-h")
    assert "Usage: " in text
    assert text == succeed(*command, "--help")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ls", "{root}/missing"), "there is no such folder"),
        (("ls", "{root}/file"), "a catalog is a folder"),
        (("gc", "{root}/trash", "--keep-last", "1"), "the catalog needs a directory of its own"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_the_status_1(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    (tmp_path / "file").write_text("")
    Catalog(tmp_path / "trash").save(1, {})
    Catalog(tmp_path / "trash").save(2, {})
    (tmp_path / "trash" / ".trash").symlink_to(tmp_path)
    filled = [argument.format(root=tmp_path) for argument in arguments]
    done = run(*filled)
    [line] = errors_of(done)
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith("sucrose: ")
    assert told in line
    done = run("--debug", *filled)
    assert done.returncode == 1
    assert any(line.startswith("Traceback") for line in errors_of(done))


@pytest.mark.parametrize("best", ["loss", "loss:", ":3", "loss:x", "loss:3:highest", "loss:-1", "loss:0"])
def test_wrong_usage_ends_with_status_2(tmp_path: Path, best: str) -> None:
    done = run("gc", tmp_path, "--keep-best", best)
    assert done.returncode == 2
    assert "METRIC:K" in " ".join(errors_of(done))


@pytest.mark.parametrize("rule", ["--keep-last", "--keep-every", "--keep-hourly", "--keep-daily"])
def test_a_rule_that_keeps_nothing_is_wrong_usage_and_named_as_it_was_written(catalog: Catalog, rule: str) -> None:
    done = run("gc", catalog.root, rule, "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert rule in done.stderr
    assert catalog.steps() == [9999, 10000, 10001]


def test_which_generations_need_which_is_listed_and_told_where_they_are_kept_for_that(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    state = {"state": StateDict(frozen=torch.ones(1000), value=1)}
    whole = catalog.save(1, state, base=None)
    alone = catalog.save(2, {"state": StateDict(value=2)}, base=None)
    newest = catalog.save(3, state, base=whole)
    listed = {generation["name"]: generation for generation in read("ls", tmp_path)["generations"]}
    assert listed[newest.id]["bases"] == [whole.id]
    assert listed[whole.id]["needed_by"] == [newest.id]
    assert [listed[alone.id][name] for name in ("bases", "needed_by")] == [[], []]
    head, *rows = succeed("ls", tmp_path).splitlines()
    assert head.split() == ["step", "committed", "size", "state", "name", "needs", "metrics"]
    assert [row.split()[6:] for row in rows] == [[], [], [whole.id]]
    report = read("gc", tmp_path, "--keep-last", "1", "--dry-run")
    assert report["needed"] == [{"step": 1, "name": whole.id}]
    assert [entry["name"] for entry in report["removed"]] == [alone.id]
    assert f"kept {whole.id}, which others need that are kept" in succeed("gc", tmp_path, "--keep-last", "1")
    assert catalog.steps() == [1, 3]


def test_the_console_script_is_the_same_program(catalog: Catalog) -> None:
    assert ENTRY_POINT is not None
    module, function = ENTRY_POINT.groups()
    assert callable(getattr(importlib.import_module(module), function))
    script = f"import sys; from {module} import {function}; sys.exit({function}())"
    done = run("ls", catalog.root, program=("-c", script))
    assert (done.returncode, errors_of(done)) == (0, [])
    assert done.stdout == succeed("ls", catalog.root)


def test_a_catalog_in_an_object_store_is_listed_by_its_url(tmp_path: Path) -> None:
    root = f"local://{tmp_path}/bucket/run"  # to this package it is a store like any other
    catalog = Catalog(root)
    first, second, broken = (catalog.save(step, {"state": StateDict(value=step)}) for step in (1, 2, 3))
    (tmp_path / "bucket" / "run" / broken.id / ".generation").write_text("changed")
    os.rename(tmp_path / "bucket" / "run" / first.id / ".snapshot_metadata", tmp_path / "away")
    Snapshot.take(f"{root}/other", {"state": StateDict(value=3)})
    content = read("ls", root)
    assert content["root"] == root
    assert [(listed["step"], listed["path"]) for listed in content["generations"]] == [(2, second.path)]
    assert [(listed["name"], listed["path"]) for listed in content["broken"]] == [(broken.id, broken.path)]
    assert content["leftovers"] == [{"name": first.id, "in_use": True}]  # by what one can tell
    assert content["other_snapshots"] == 1
    assert "1 snapshot here that no catalog wrote" in succeed("ls", root)


def test_a_catalog_in_an_object_store_is_collected_by_its_url(tmp_path: Path) -> None:
    root = f"local://{tmp_path}/bucket/run"
    catalog = Catalog(root)
    for step in (1, 2, 3):
        catalog.save(step, {"state": StateDict(value=step)}, metrics={"loss": step})
    assert [removed["step"] for removed in read("gc", root, "--keep-last", "1", "--dry-run")["removed"]] == [1, 2]
    assert catalog.steps() == [1, 2, 3]
    assert [removed["step"] for removed in read("gc", root, "--keep-best", "loss:1")["removed"]] == [2]
    assert catalog.steps() == [1, 3]


@pytest.mark.parametrize("command", ["ls", "gc"])
def test_a_url_at_which_there_is_nothing_is_an_error_in_one_line(tmp_path: Path, command: str) -> None:
    done = run(command, f"local://{tmp_path}/nothing")
    assert done.returncode == 1
    [line] = errors_of(done)
    assert f"local://{tmp_path}/nothing" in line
    assert run(command, "nowhere://bucket/run").returncode == 1

"""When pickles below a directory may run code: when nobody but this user can have written them."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from typing import TYPE_CHECKING

import pytest

from sucrose.state.trust import distrust_of, stranger_in

if TYPE_CHECKING:
    from pathlib import Path

SOMEBODY = 12345


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "states of a program"
    root.mkdir(mode=0o700)
    return root


@pytest.fixture
def private_group(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """This user's group has the user's name. Members that are not the user can be added."""
    members: list[str] = []
    user = pwd.struct_passwd(("ann", "x", os.geteuid(), os.getegid(), "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: user)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("ann", "x", gid, members)))
    return members


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500])
def test_a_directory_of_the_user_alone_is_trusted(root: Path, mode: int) -> None:
    root.chmod(mode)
    assert distrust_of(str(root)) is None


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o1777, 0o702])
def test_a_directory_that_all_can_write_to_is_not_and_the_reason_has_the_repair(root: Path, mode: int) -> None:
    root.chmod(mode)
    reason = distrust_of(str(root))
    assert reason is not None
    assert "writable by all users" in reason
    repair = reason.partition("write there: ")[2].rstrip(")")
    subprocess.run(repair, shell=True, check=True)
    assert distrust_of(str(root)) is None


def test_a_directory_that_the_users_private_group_can_write_to_is_trusted(root: Path, private_group: list[str]) -> None:
    root.chmod(0o770)
    assert distrust_of(str(root)) is None
    private_group.append("ann")
    assert distrust_of(str(root)) is None
    private_group.append("eve")
    reason = distrust_of(str(root))
    assert reason is not None
    assert "group 'ann'" in reason
    assert "chmod go-w" in reason


@pytest.mark.usefixtures("private_group")
def test_a_list_of_further_users_makes_a_group_public(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.chmod(0o770)
    monkeypatch.setattr(os, "listxattr", lambda path: ["system.posix_acl_access"])
    assert distrust_of(str(root)) is not None


@pytest.mark.usefixtures("private_group")
def test_a_group_that_is_not_the_users_own_is_not_trusted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.chmod(0o770)
    with monkeypatch.context() as other:
        other.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("staff", "x", gid, [])))
        assert "group 'staff'" in str(distrust_of(str(root)))
    with monkeypatch.context() as other:
        user = pwd.struct_passwd(("ann", "x", os.geteuid(), os.getegid() + 1, "", "/", "/bin/sh"))
        other.setattr(pwd, "getpwuid", lambda uid: user)
        assert "group 'ann'" in str(distrust_of(str(root)))

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert f"group {root.stat().st_gid}" in str(distrust_of(str(root)))


def test_a_directory_of_somebody_else_is_not_trusted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    reason = distrust_of(str(root))
    assert reason is not None
    assert "belongs to" in reason
    assert f"user {SOMEBODY}" in reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_that_was_given_away_is_not_trusted(root: Path) -> None:
    os.chown(root, SOMEBODY, -1)
    assert f"belongs to user {SOMEBODY}" in str(distrust_of(str(root)))


def test_a_link_is_as_good_as_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    assert distrust_of(str(link)) is None
    root.chmod(0o777)
    assert str(root) in str(distrust_of(str(link)))


def test_what_is_no_directory_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "no directory" in str(distrust_of(str(file)))
    assert "cannot be examined" in str(distrust_of(str(tmp_path / "missing")))


@pytest.fixture
def data(root: Path) -> Path:
    """A file of a generation."""
    (root / "1").mkdir(mode=0o755)
    file = root / "1" / "data"
    file.touch(mode=0o644)
    return file


def test_a_file_that_others_can_write_to_is_not_trusted_where_they_can_come_to_it(root: Path, data: Path) -> None:
    root.chmod(0o755)
    assert distrust_of(str(root), generation=str(data.parent)) is None
    data.chmod(0o666)
    assert str(data) in str(distrust_of(str(root), generation=str(data.parent)))
    root.chmod(0o700)
    assert distrust_of(str(root), generation=str(data.parent)) is None


def test_a_directory_that_all_can_put_another_in_the_place_of_is_not_trusted(root: Path) -> None:
    below = root / "of nobody" / "states"
    below.mkdir(parents=True)
    below.parent.chmod(0o777)
    reason = str(distrust_of(str(below)))
    assert str(below) in reason
    assert f"chmod go-w '{below.parent}'" in reason
    below.parent.chmod(0o1777)  # as /tmp is
    assert distrust_of(str(below)) is None


def test_what_others_have_made_in_a_generation_is_a_strangers(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stranger_in(str(data.parent)) is None
    link = data.with_name("link")
    link.symlink_to(data)
    assert str(link) in str(stranger_in(str(data.parent)))
    link.unlink()
    lstat = os.lstat
    for owner, is_stranger in ((0, False), (SOMEBODY, True)):  # root can do anything anyhow

        def as_of_owner(path: str, owner: int = owner) -> os.stat_result:
            info = [*lstat(path)]
            info[4] = owner
            return os.stat_result(info)

        monkeypatch.setattr(os, "lstat", as_of_owner)
        assert (stranger_in(str(data.parent)) is not None) == is_stranger

"""Whether pickles below a directory may run code: whether nobody but this user can have written them."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterable


def distrust_of(root: str, *, also: Iterable[str] = ()) -> str | None:
    """Why what lies in a directory is not to be trusted, and what to do about it; None: it is.

    The directory must belong to this user, and others must not be able to write to it. A group may,
    where it is the user's private group, as many systems have one for each user.

    Args:
        root: the directory, or a symbolic link to it.
        also: directories and files below it that must be the same. Symbolic links are not.

    Example:
        >>> import os, tempfile
        >>> from sucrose.state.trust import distrust_of
        >>> root = tempfile.mkdtemp()
        >>> distrust_of(root) is None
        True
        >>> os.chmod(root, 0o777)
        >>> "is writable by all users" in distrust_of(root)
        True
    """
    directory = os.path.realpath(root)
    try:
        info = os.stat(directory)
        if not stat.S_ISDIR(info.st_mode):
            return f"{root!r} is no directory"
        reason = _distrust_of_one(directory, info)
        for path in also:
            reason = reason or _distrust_of_one(path, os.lstat(path))
    except OSError as error:
        return f"{error.filename!r} cannot be examined ({error.strerror})"
    return reason


def _distrust_of_one(path: str, info: os.stat_result) -> str | None:
    user = os.geteuid()
    if not (stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)):
        return f"{path!r} is neither a directory nor a regular file"
    if info.st_uid != user:
        owner, own = _name_of_user(info.st_uid), _name_of_user(user)
        return f"{path!r} belongs to {owner}, not to {own} (copy it, if you trust {owner})"
    repair = f"chmod go-w {shlex.quote(path)}"
    if info.st_mode & stat.S_IWOTH:
        return f"{path!r} is writable by all users (if none of them did write there: {repair})"
    if info.st_mode & stat.S_IWGRP and not _is_private(info.st_gid, path):
        return f"{path!r} is writable by the group {_name_of_group(info.st_gid)} (if nobody of it did write: {repair})"
    return None


def _is_private(gid: int, path: str) -> bool:
    """Whether the group is this user alone."""
    if "system.posix_acl_access" in _attributes_of(path):
        return False  # the group's bits then stand for everybody whom the list names
    try:
        user = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _attributes_of(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:  # the file system has none
        return []


def _name_of_user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"user {uid}"


def _name_of_group(gid: int) -> str:
    try:
        return repr(grp.getgrgid(gid).gr_name)
    except KeyError:
        return str(gid)

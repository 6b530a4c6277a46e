"""Whether pickles below a directory may run code: whether nobody but this user can have written them."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator


def distrust_of(root: str, *, generation: str | None = None) -> str | None:
    """Why what lies in a directory is not to be trusted, and what to do about it; None: it is.

    The directory must belong to this user, and others must not be able to write to it, nor to put
    another one in its place. A group may, where it is the user's private group, as many systems have one
    for each user.

    Args:
        root: the directory, or a symbolic link to it.
        generation: a directory below it that others must not be able to write to, either, with all that it holds.

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
        reason = _distrust_of_owner(directory, info) or _distrust_of_mode(directory, info)
        for parent in _parents_of(directory):
            mode = os.stat(parent).st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                reason = reason or f"all users can replace {directory!r}: {_writable_by_all(parent)}"
        is_open = info.st_mode & (stat.S_IXGRP | stat.S_IXOTH)
        for path in _all_in(generation) if generation is not None and is_open else []:
            reason = reason or _distrust_of_mode(path, os.lstat(path))
    except OSError as error:
        return f"{error.filename!r} cannot be examined ({error.strerror})"
    return reason


def stranger_in(directory: str) -> str | None:
    """What in a directory was not made by this user or by root, who can do anything anyhow; None: nothing.

    Raises:
        OSError: something in it cannot be examined.
    """
    for path in _all_in(directory):
        info = os.lstat(path)
        if not (stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)):
            return f"{path!r} is neither a directory nor a regular file"
        if info.st_uid not in (os.geteuid(), 0):
            return f"{path!r} belongs to {_name_of_user(info.st_uid)}"
    return None


def _all_in(directory: str) -> Iterator[str]:
    yield directory
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            yield os.path.join(folder, name)


def _parents_of(directory: str) -> Iterator[str]:
    while (parent := os.path.dirname(directory)) != directory:
        yield parent
        directory = parent


def _distrust_of_owner(path: str, info: os.stat_result) -> str | None:
    user = os.geteuid()
    if info.st_uid != user:
        owner, own = _name_of_user(info.st_uid), _name_of_user(user)
        return f"{path!r} belongs to {owner}, not to {own} (copy it, if you trust {owner})"
    return None


def _distrust_of_mode(path: str, info: os.stat_result) -> str | None:
    if info.st_mode & stat.S_IWOTH:
        return _writable_by_all(path)
    if info.st_mode & stat.S_IWGRP and not _is_private(info.st_gid, path):
        group = _name_of_group(info.st_gid)
        return f"{path!r} is writable by the group {group} (if nobody of it did write: {_repair_of(path)})"
    return None


def _writable_by_all(path: str) -> str:
    return f"{path!r} is writable by all users (if none of them did write there: {_repair_of(path)})"


def _repair_of(path: str) -> str:
    return f"chmod go-w {shlex.quote(path)}"


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

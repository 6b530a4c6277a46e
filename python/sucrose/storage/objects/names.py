"""Names of files, and the keys that they have in a store."""

from __future__ import annotations

from sucrose.errors import ConfigError, CorruptionError

HIDDEN_PARTS = ".sucrose-parts"
"""Folder of the parts of uploads, in stores that keep those as objects; shows in no listing."""

_MAX_KEY_NBYTES = 1024  # of S3 and GCS alike


def key_of(url: str, prefix: str, name: str) -> str:
    """The key of a file.

    Args:
        url: of the storage, for the message.
        prefix: of its keys, with a ``/`` at its end unless it is empty.
        name: of the file.

    Raises:
        CorruptionError: it does not name a file below the prefix.
    """
    segments = name.split("/")
    if not name or "\0" in name or not _fits(prefix + name) or any(part in ("", ".", "..") for part in segments):
        raise CorruptionError(f"{url}: {name!r} does not name a file inside of it", path=url, key=name)
    return prefix + name


def prefix_beside(url: str, prefix: str, folder: str) -> str:
    """The prefix of another folder of the same bucket, without a ``/`` at its end.

    Args:
        url: of the storage, for the message.
        prefix: of its keys, with a ``/`` at its end unless it is empty.
        folder: from there: ``../step_100``.

    Raises:
        CorruptionError: it leads out of the bucket.
    """
    above, down = prefix.split("/")[:-1], folder.split("/")
    while down[0] == ".." and above:
        above.pop()
        del down[0]
        if not down:
            break
    return key_of(url, "".join(f"{segment}/" for segment in above), "/".join(down))


def is_hidden(key: str) -> bool:
    """Whether it is that of a part."""
    return f"/{HIDDEN_PARTS}/" in f"/{key}"


def _fits(key: str) -> bool:
    try:
        return len(key.encode()) <= _MAX_KEY_NBYTES
    except UnicodeEncodeError:  # halves of surrogate pairs
        return False


def split_url(url: str) -> tuple[str, str, str]:
    """The URL of the bucket, its name, and the prefix: of ``s3://a/b/c`` ``s3://a``, ``a`` and ``b/c``.

    Raises:
        ConfigError: there is no name of a bucket.
    """
    scheme, _, rest = url.partition(":")
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if not bucket:
        raise ConfigError(f"{url!r} names no bucket: expected {scheme}://BUCKET/PATH", path=url)
    prefix = prefix.strip("/")
    if prefix:
        try:
            key_of(f"{scheme}://{bucket}", "", prefix)
        except CorruptionError as error:
            raise ConfigError(
                f"{url!r} names no place in a bucket: its path has segments between single slashes, none of them . or "
                f"..; it is at most {_MAX_KEY_NBYTES} bytes long",
                path=url,
            ) from error
    return f"{scheme}://{bucket}", bucket, prefix

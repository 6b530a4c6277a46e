"""Names of a take's files in an object store: they have its tag, so that no other take's are like them."""

from __future__ import annotations

import re
import secrets

from sucrose.formats.index import INDEX_FILE
from sucrose.formats.signature import SIGNATURE_FILE

_TAG_NBYTES = 6
_FOLDERS = ("data", "objects")
_OF_A_TAKE = re.compile(
    rf"(?:{'|'.join(_FOLDERS)})/[0-9a-f]{{{2 * _TAG_NBYTES}}}/."
    rf"|(?:{re.escape(INDEX_FILE)}|{re.escape(SIGNATURE_FILE)})\.[0-9a-f]{{32}}\Z"
)


def new_tag() -> str:
    """12 hex digits, from no generator whose state programs save."""
    return secrets.token_hex(_TAG_NBYTES)


def tagged_folders(tag: str) -> list[str]:
    """What the names of the files of the take with this tag begin with."""
    return [f"{folder}/{tag}/" for folder in _FOLDERS]


def where_takes_put_files() -> list[str]:
    """What the names of all files begin with that takes may have put."""
    return [*(f"{folder}/" for folder in _FOLDERS), f"{INDEX_FILE}.", f"{SIGNATURE_FILE}."]


def is_of_a_take(name: str) -> bool:
    """Whether some take to an object store gave a file this name."""
    return _OF_A_TAKE.match(name) is not None

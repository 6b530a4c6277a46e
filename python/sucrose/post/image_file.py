"""A figure as a file."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from sucrose.errors import ConfigError
from sucrose.post.replacing import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMATS = (".png", ".svg", ".pdf")
_DPI = 160
_MAX_PIXELS = 30_000  # in one direction; matplotlib draws no more than 2**16


def image_format(path: str) -> str:
    """What kind of image a name asks for.

    Raises:
        ConfigError: none that can be written.
    """
    extension = os.path.splitext(path)[1].lower()
    if extension not in _FORMATS:
        raise ConfigError(
            f"{path}: an image ends in {', '.join(_FORMATS)}, found {extension or 'no extension'}", path=path
        )
    return extension[1:]


def write_image(figure: Figure, path: str) -> None:
    """Writes the image; whoever looks at `path` meanwhile finds the old one or the new one.

    Raises:
        ConfigError: as `image_format` does.
        OSError: it cannot be written; nothing at `path` has changed.
    """
    kind = image_format(path)
    dpi = min(_DPI, _MAX_PIXELS / max(figure.get_size_inches()))
    metadata = {"Date": None} if kind == "svg" else None  # equal curves give equal files
    with replacing(path) as temporary, warnings.catch_warnings():
        # Of names in a script that the font lacks: all that matplotlib says for each character, and draws boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=metadata)

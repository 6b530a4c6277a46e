"""How the data files of a snapshot are compressed, as the `compression` argument of a take says it.

| `compression` | means | the file, decoded by the `zstd` tool |
| --- | --- | --- |
| None, `"none"` | not at all | |
| `"zstd"` | zstd, level 1 | the safetensors file |
| `"zstd:LEVEL"` | zstd, level -50 to 22 | the safetensors file |
| `"auto"` | byte groups and entropy coding, and only where that is faster than the disk | filtered bytes |
| `Compression(...)` | what it says | the safetensors file where `filter` is `"none"` |
"""

from __future__ import annotations

from dataclasses import dataclass

from sucrose.errors import ConfigError

MIN_LEVEL, MAX_LEVEL = -50, 22
_USUAL_LEVEL = 1
_FILTERS = ("bytegroup", "none")
_EXPECTED = f"expected none, zstd, zstd:LEVEL with a level from {MIN_LEVEL} to {MAX_LEVEL}, or auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """zstd, chunk by chunk.

    Attributes:
        level: of zstd, -50 (fastest) to 22 (smallest); None looks for no repeated strings, which weights
            do not have, and codes the entropy of their bytes alone: faster than level 1.
        filter: ``"bytegroup"`` splits the items of a tensor into their first bytes, second bytes and so on, so
            that signs and exponents come to lie side by side and compress; ``"none"`` leaves files that any
            program decodes which reads zstd.
        adaptive: measure how fast compression and storage are, and stop compressing where that does not pay.

    Raises:
        ConfigError: a value is not one of those.

    Example:
        >>> import tempfile, torch
        >>> from sucrose import Compression, Snapshot, StateDict
        >>> weights = StateDict(w=torch.randn(1000, 1000).bfloat16())
        >>> snapshot = Snapshot.take(tempfile.mkdtemp() + "/s", {"weights": weights}, compression=Compression())
        >>> snapshot.stats.stored_nbytes < 0.75 * snapshot.stats.nbytes
        True
    """

    level: int | None = None
    filter: str = "bytegroup"
    adaptive: bool = False

    def __post_init__(self) -> None:
        if self.level is not None and not (type(self.level) is int and MIN_LEVEL <= self.level <= MAX_LEVEL):
            raise ConfigError(f"compression level {self.level!r}: expected None or {MIN_LEVEL} to {MAX_LEVEL}")
        if self.filter not in _FILTERS:
            raise ConfigError(f"compression filter {self.filter!r}: expected one of {', '.join(_FILTERS)}")

    @classmethod
    def parse(cls, text: str) -> Compression | None:
        """What one of the names in the table above means; None for no compression.

        Raises:
            ConfigError: it is none of them.
        """
        if text in ("", "none"):
            return None
        if text == "auto":
            return cls(adaptive=True)
        codec, separator, level = text.partition(":")
        try:
            if codec == "zstd":
                return cls(level=int(level) if separator else _USUAL_LEVEL, filter="none")
        except ValueError:  # no number, or none of zstd's levels
            pass
        raise ConfigError(f"compression {text!r}: {_EXPECTED}")

    @classmethod
    def of(cls, given: Compression | str | None, default: str) -> Compression | None:
        """The meaning of an argument that may be left out; `default` is the option's text then.

        Raises:
            ConfigError: it has none.
        """
        if isinstance(given, Compression):
            return given
        if given is None or isinstance(given, str):
            return cls.parse(default if given is None else given)
        raise ConfigError(f"compression {given!r}: {_EXPECTED}, or a Compression")

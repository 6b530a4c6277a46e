"""From the pickle of a `torch.save` file and its storages to the object."""

from __future__ import annotations

import io
import pickle
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import torch

# Not public, but the only place where the rules of weights_only=True are written down: a second
# version of them here could only become laxer or stricter than what users have audited.
from torch._weights_only_unpickler import Unpickler as WeightsOnlyUnpickler

from sucrose.errors import CorruptionError, UnsafeObjectError
from sucrose.formats.pickle_limits import check_pickle
from sucrose.snapshot.plain_pickle import BeyondPlainError, StorageKind, load_plain
from sucrose.snapshot.torch_pickle import STORAGE_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MapLocation: TypeAlias = Union[
    "Callable[[Any, str], Any]",
    torch.device,
    str,
    "dict[str, str]",
    None,
]
"""As `torch.load` takes it: where storages go, or who decides."""

BROKEN_PICKLE = (
    LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError, EOFError, ImportError,
    MemoryError, RuntimeError, struct.error,
)  # fmt: skip
"""What torch's restricted unpickler, and the functions that it allows, raise on bytes that no pickler has made."""

_STORAGE_KINDS = {kind.__name__: StorageKind(dtype) for dtype, kind in STORAGE_CLASSES.items()}


def unpickle(
    data: bytes,
    storages: Mapping[str, torch.UntypedStorage],
    map_location: MapLocation,
    *,
    weights_only: bool,
    path: str,
) -> Any:
    """Rebuilds the object in `data` around `storages`, which lie in host memory.

    Raises:
        UnsafeObjectError: `weights_only`, and the pickle wants more than that allows.
        CorruptionError: the pickle and the storages do not belong together.
    """
    loader = _StorageLoader(storages, map_location, path)
    try:
        result = load_plain(data, loader)
    except CorruptionError as error:
        if error.path is not None:
            raise
        raise CorruptionError(f"a storage of {path} {error}.", path=path) from error
    except BeyondPlainError:
        with _announced(map_location, path):
            load = _load_weights_only if weights_only else _load_anything
            result = load(data, loader, path)
    loader.check()
    return result


class _StorageLoader:
    """Answers for the persistent ids of a pickle; a key always gives the same storage."""

    def __init__(self, storages: Mapping[str, torch.UntypedStorage], map_location: MapLocation, path: str) -> None:
        self._storages = storages
        self._nbytes: dict[str, int] = {}
        self._restore = _restorer(map_location)
        self._path = path
        self._loaded: dict[str, torch.TypedStorage] = {}
        self.failure: Exception | None = None
        """An error of the device or of the caller's `map_location`, not of the file."""

    def __call__(self, persistent_id: Any) -> torch.TypedStorage:
        tag, kind, key, location, numel = persistent_id
        if type(key) is not str:
            raise pickle.UnpicklingError(f"a {type(key).__name__} does not name a storage")
        loaded = self._loaded.get(key)
        if loaded is not None:
            return loaded
        if tag != "storage":
            raise pickle.UnpicklingError(f"persistent id {tag!r} does not name a storage")
        dtype = torch.uint8 if kind is torch.UntypedStorage else kind.dtype
        storage = self._storages.get(key)
        if storage is None:
            raise self._corruption(key, "is missing")
        nbytes = storage.nbytes()
        if nbytes != numel * dtype.itemsize:
            raise self._corruption(key, f"has {nbytes} bytes, expected {numel * dtype.itemsize}")
        try:
            restored = self._restore(storage, location)
        except Exception as error:
            self.failure = error
            raise
        loaded = torch.TypedStorage(  # type: ignore[no-untyped-call]
            wrap_storage=restored, dtype=dtype, _internal=True
        )
        self._nbytes[key] = nbytes
        self._loaded[key] = loaded
        return loaded

    def check(self) -> None:
        """Refuses tensors that reach beyond their storage: torch grows it, by bytes of no file."""
        for key, loaded in self._loaded.items():
            found = loaded._untyped_storage.nbytes()  # noqa: SLF001 - untyped() warns
            if found > self._nbytes[key]:
                reason = f"has {self._nbytes[key]} bytes, but a tensor in it needs {found}"
                raise self._corruption(key, reason)

    def _corruption(self, key: str, reason: str) -> CorruptionError:
        message = f"storage {key!r} of {self._path} {reason}."
        return CorruptionError(message, path=self._path, key=key)


def _restorer(
    map_location: MapLocation,
) -> Callable[[torch.UntypedStorage, str], torch.UntypedStorage]:
    restore: Callable[..., torch.UntypedStorage] = torch.serialization.default_restore_location
    if map_location is None:
        return restore
    if isinstance(map_location, (str, torch.device)):
        wanted = str(map_location)
        return lambda storage, location: restore(storage, wanted)  # noqa: ARG005
    if isinstance(map_location, dict):
        mapping = map_location
        return lambda storage, location: restore(storage, mapping.get(location, location))
    decide = map_location

    def ask(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        decided: torch.UntypedStorage | None = decide(storage, location)
        return restore(storage, location) if decided is None else decided

    return ask


@contextmanager
def _announced(map_location: MapLocation, path: str) -> Iterator[None]:
    """Tells torch's rebuild functions of tensors without storage where they belong."""
    # They read it there; torch 2.4 had another place for it.
    context = getattr(torch.serialization, "_serialization_tls", None)
    if context is None:
        context = getattr(torch._utils, "_thread_local_state")  # noqa: B009, SLF001 - gone from the stubs
    context.map_location = map_location
    try:
        yield
        try:
            torch._utils._validate_loaded_sparse_tensors()  # type: ignore[no-untyped-call] # noqa: SLF001
        except RuntimeError as error:
            raise CorruptionError(f"{path} has a sparse tensor that is none: {error}", path=path) from error
    finally:
        context.map_location = None


def _load_weights_only(data: bytes, loader: _StorageLoader, path: str) -> Any:
    check_pickle(data, path)
    unpickler = WeightsOnlyUnpickler(io.BytesIO(data), encoding="utf-8")
    unpickler.persistent_load = loader  # type: ignore[method-assign] # as torch.load does
    try:
        return unpickler.load()  # type: ignore[no-untyped-call]
    except pickle.UnpicklingError as error:
        raise refusal(path, error) from error
    except BROKEN_PICKLE as error:
        if loader.failure is not None:
            raise
        raise CorruptionError(f"the pickle in {path} is broken: {error!r}.", path=path) from error


def refusal(path: str, error: pickle.UnpicklingError) -> UnsafeObjectError:
    """What to tell a user whose file needs more than weights_only=True allows."""
    return UnsafeObjectError(
        f"{path} holds more than tensors and plain containers, and weights_only=True refuses the "
        f"rest: {error} If you trust whoever wrote the file, pass weights_only=False; or allow the "
        f"class alone with torch.serialization.add_safe_globals.",
        path=path,
    )


def _load_anything(data: bytes, loader: _StorageLoader, path: str) -> Any:  # noqa: ARG001
    return _Unpickler(data, loader).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, loader: _StorageLoader) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._loader = loader

    def persistent_load(self, pid: Any) -> torch.TypedStorage:
        return self._loader(pid)

    def find_class(self, module: str, name: str, /) -> Any:
        if module in {"torch", "torch.cuda"} and name in _STORAGE_KINDS:
            return _STORAGE_KINDS[name]
        # Tensors moved to another module in torch 1.8; old files still name the first one.
        return super().find_class("torch._tensor" if module == "torch.tensor" else module, name)

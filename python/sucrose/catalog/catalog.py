"""`Catalog`: a folder of snapshot generations."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from sucrose.catalog.agreement import agree_on_call, agree_on_draft
from sucrose.catalog.arguments import checked_metrics, checked_step, refuse_increments
from sucrose.catalog.background import COLLECTOR
from sucrose.catalog.choosing_base import Base, check_full_every, check_may_refer, newest_base
from sucrose.catalog.collecting import CollectReport, collect
from sucrose.catalog.drafting import draft_generation
from sucrose.catalog.finding import lease_of_step, newest_of_step
from sucrose.catalog.generation import Generation, Quarantined
from sucrose.catalog.newest import lease_newest
from sucrose.catalog.opening import open_catalog_directory
from sucrose.catalog.pending import PENDING, PendingGeneration
from sucrose.catalog.restoring import restore_newest, restore_step
from sucrose.catalog.retention import Retention, retention_of
from sucrose.catalog.save_annex import AnnexOfRank0, GenerationAnnex
from sucrose.compression import Compression
from sucrose.errors import IncompleteSnapshotError
from sucrose.formats.signing_keys import Signer, SigningKey
from sucrose.options import current_options
from sucrose.ranks import Ranks
from sucrose.snapshot.arguments import checked_globs
from sucrose.snapshot.authenticity import signer_of
from sucrose.snapshot.snapshot import Snapshot
from sucrose.snapshot.take_request import TakeRequest, async_take, take

if TYPE_CHECKING:
    from sucrose.snapshot.stateful import AppState


class Catalog:
    """A folder of snapshot generations.

    Several processes may save, restore and collect in one folder. Nothing of it is touched but what
    catalogs have written. Thread-safe, and usable in signal handlers as `Snapshot` is.

    Where `torch.distributed` is set up, all ranks of the group call `save`, `async_save`, `restore_latest` and
    `restore` together: rank 0 looks at the folder and decides, and all get the same generation. Any rank may call the
    others.

    Example:
        >>> import tempfile, torch
        >>> from sucrose import Catalog
        >>> model = torch.nn.Linear(4, 2)
        >>> catalog = Catalog(tempfile.mkdtemp(), keep_last=2)
        >>> for step in (1, 2, 3):
        ...     generation = catalog.save(step, {"model": model}, metrics={"loss": 1 / step})
        >>> report = catalog.collect()  # each save does that in the background
        >>> catalog.steps()
        [2, 3]
        >>> catalog.restore_latest({"model": model}).step
        3
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        keep: Retention | int | None = None,
        *,
        keep_last: int | None = None,
        keep_every: int | None = None,
        keep_hourly: int | None = None,
        keep_daily: int | None = None,
        keep_best: tuple[str, int] | tuple[str, int, str] | None = None,
        full_every: int | None = None,
        compression: Compression | str | None = None,
        signing_key: SigningKey | Signer | None = None,
        pg: Any = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Refers to the catalog at `root`; the first save makes the folder.

        Args:
            root: directory, optionally as ``fs://`` URL; or the URL of a folder in an object store.
            keep: rules, or the number of generations for `keep_last`; without any rule all are kept.
            keep_last: a rule, see `Retention`; and so are the others.
            keep_every: a rule.
            keep_hourly: a rule.
            keep_daily: a rule.
            keep_best: a rule.
            full_every: N: only every N-th save is whole, and those between refer to the newest generation for what
                has not changed since then, see docs/incremental.md. Left out all are whole.
            compression: of what is saved, as for `Snapshot.take`.
            signing_key: signs what is saved, and only what is signed with it, or with any of several, is restored;
                left out it is what `SUCROSE_SIGNING_KEY` says.
            pg: process group of the ranks that save and restore together; the default group where it is None.
            storage_options: for object stores, see docs/storage.md; the local storage has none.

        Raises:
            ConfigError: a rule, `full_every` or `compression` has a value that is not allowed, a signing key has less
                than 16 bytes, or there is no storage for the URL.
            ValueError: `storage_options` for a local path.
        """
        rules = {
            "keep_last": keep_last,
            "keep_every": keep_every,
            "keep_hourly": keep_hourly,
            "keep_daily": keep_daily,
            "keep_best": keep_best,
        }
        self.retention = retention_of(keep, rules)
        Compression.of(compression, current_options().compression)  # a wrong one is told of here
        self._compression = compression
        self._full_every = check_full_every(full_every)
        self._pg = pg
        self._directory = open_catalog_directory(root, signer_of(signing_key), storage_options)
        self.root = self._directory.root
        if full_every is not None:
            check_may_refer(self.root, f"full_every={full_every}")

    def save(
        self,
        step: int,
        app_state: AppState,
        *,
        metrics: Mapping[str, float] | None = None,
        pinned: bool = False,
        durable: bool = True,
        base: Base = "auto",
        progress: bool | None = None,
        replicated: Sequence[str] | None = None,
    ) -> Generation:
        """Writes a new generation; then older ones are collected in the background.

        A step may be saved again, and one may be saved that is lower than the newest: see
        `Generation.order`.

        Of several ranks, which all call this with the same step, rank 0's metrics and options count; a base there is
        none. Rank 0 collects.

        Args:
            step: of the program, from 0.
            app_state: names to statefuls, as for `Snapshot.take`.
            metrics: numbers to remember, for `keep_best` and for people.
            pinned: keep this one whatever the rules say.
            durable: fsync everything before returning.
            base: the generation to refer to for what has not changed since then: one of this catalog, a step of
                which the newest is meant, or "newest"; None is a whole save. Left out, `full_every` decides. No
                generation that another one refers to is removed before that one.
            progress: show a progress bar; by default on a terminal, after two seconds.
            replicated: globs of values that are the same on all ranks, as for `Snapshot.take`.

        Raises:
            TypeError: `step` or `metrics` are not what they should be; else as for `Snapshot.take`.
            ValueError: `step` is negative or of more than 63 bits, or a metric's name cannot be written in UTF-8.
            IncompleteSnapshotError: there is no such generation as `base`.
            CorruptionError: `base` is one that is damaged, or a generation leaves no room for a newer one.
            NotDurableError: the generation is there, but its folder could not be fsynced.
            UnsupportedError: several ranks with `base` or `full_every`.
            RankError: another rank has failed, is silent, or names another step or folder; nothing was committed.
            OSError: writing failed; nothing was committed, and nothing was collected.
        """
        with self._prepared(
            step, app_state, metrics, replicated, pinned=pinned, durable=durable, progress=progress, base=base
        ) as (annex, request):
            take(request)
        return annex.generation()

    def async_save(
        self,
        step: int,
        app_state: AppState,
        *,
        metrics: Mapping[str, float] | None = None,
        pinned: bool = False,
        durable: bool = True,
        base: Base = "auto",
        replicated: Sequence[str] | None = None,
    ) -> PendingGeneration:
        """Like `save`, but returns as soon as `app_state` may be changed; the rest goes on meanwhile.

        What is referred to is the newest generation that is committed, not one that is pending.

        Raises:
            Exception: as `save`; and the error of an earlier one in the background that nobody has been
                told of yet.
        """
        with self._prepared(
            step, app_state, metrics, replicated, pinned=pinned, durable=durable, progress=False, base=base
        ) as (annex, request):
            snapshot = Snapshot(request.path, storage_options=request.storage_options, signing_key=request.signer)
            pending = PendingGeneration(async_take(request, snapshot._committed), annex)  # noqa: SLF001
        PENDING.add(pending, self.root, annex.timeline, step)
        return pending

    def generations(self) -> list[Generation]:
        """All complete generations, oldest first. Each is complete by its record; nothing else is read."""
        return list(self._directory.listing().generations)

    def steps(self) -> list[int]:
        """The steps of which there are complete generations, ascending."""
        return sorted({generation.step for generation in self.generations()})

    def latest(self, *, verify: bool = False) -> Generation | None:
        """The newest generation that is sound; None where there is none. Broken ones go to quarantine.

        Where a signing key is set, those that are not signed with it are passed over, with a warning in the log.

        Args:
            verify: read everything and compare all digests, instead of the small files' digests and the
                other files' sizes alone.

        Raises:
            SignatureError: none of the sound ones is signed with a key that is set.
            FormatVersionError: a newer release has saved here.
            OSError: a file cannot be read, for a reason that is not the generation's.
        """
        found = lease_newest(self._directory, contents=verify, passed_over=set())
        if found is None:
            return None
        generation, lease = found
        lease.release()
        return generation

    def restore_latest(
        self,
        app_state: AppState,
        *,
        strict: bool = True,
        allow_pickle: bool = False,
        cast: bool = False,
        progress: bool | None = None,
    ) -> Generation | None:
        """Restores the newest generation that is sound, and returns it.

        All digests are compared while it is read. A generation that is broken goes to quarantine, with a
        warning in the log, and the one before it is restored.

        Args:
            app_state: as for `Snapshot.restore`, and so are the others.
            strict: handed to `nn.Module.load_state_dict`.
            allow_pickle: restore objects that need a full unpickler, which may run code.
            cast: convert tensors whose dtype differs.
            progress: show a progress bar.

        Returns:
            None where there was no sound generation, and `app_state` is as it was.

        Raises:
            CorruptionError: no generation was sound, and tensors may have been overwritten by one that
                was found broken while it was read.
            SignatureError: none of the sound ones is signed with a key that is set.
            FormatVersionError: a newer release has saved here.
            RankError: another rank has failed, is silent, or has another catalog.
            Exception: as `Snapshot.restore`, of errors that do not speak against the generation; nothing
                goes to quarantine then.
        """

        def restore(generation: Generation) -> None:
            snapshot = generation.snapshot(self._pg)
            snapshot.restore(app_state, strict, allow_pickle=allow_pickle, cast=cast, progress=progress)

        with Ranks.of(self._pg).begin("restoring the newest generation") as exchange:
            return restore_newest(self._directory, restore, exchange)

    def restore(
        self,
        step: int,
        app_state: AppState,
        *,
        strict: bool = True,
        allow_pickle: bool = False,
        cast: bool = False,
        progress: bool | None = None,
    ) -> Generation:
        """Restores the newest generation of `step`, and returns it. No other takes its place.

        Raises:
            IncompleteSnapshotError: there is none of this step; the message lists those that there are.
            SignatureError: a signing key is set, and it is not signed with it.
            Exception: as `Snapshot.restore`.
        """

        def restore(generation: Generation) -> None:
            snapshot = generation.snapshot(self._pg)
            snapshot.restore(app_state, strict, allow_pickle=allow_pickle, cast=cast, progress=progress)

        with Ranks.of(self._pg).begin("restoring a generation") as exchange:
            return restore_step(self._directory, step, lambda: lease_of_step(self._directory, step), restore, exchange)

    def collect(self, *, dry_run: bool = False) -> CollectReport:
        """Removes what the rules do not keep, and what crashes have left. Saves do so in the background.

        What they have begun is waited for first.

        Args:
            dry_run: only tell.

        Raises:
            OSError: the folder cannot be read, or something in it cannot be removed.
        """
        COLLECTOR.wait_idle()
        return collect(self._directory, self.retention, dry_run=dry_run)

    def pin(self, step: int) -> None:
        """Keeps the newest generation of `step` whatever the rules say.

        Raises:
            IncompleteSnapshotError: there is none.
        """
        pinned = False
        while not pinned:
            generation = newest_of_step(self._directory, step)
            lease = generation.lease()
            if lease is not None:  # with it no collection can be past the point at which it looks at pins
                with lease:
                    self._directory.pins.set(generation.id, pinned=True)
                    pinned = lease.is_current()  # in object stores it keeps nobody away

    def unpin(self, step: int) -> None:
        """Leaves all generations of `step` to the rules, which apply from the next collection on.

        Raises:
            IncompleteSnapshotError: there is none.
        """
        newest_of_step(self._directory, step)
        for generation in self.generations():
            if generation.step == step and generation.pinned:
                self._directory.pins.set(generation.id, pinned=False)

    def quarantined(self) -> list[Quarantined]:
        """Generations that were found broken, by name. They are the user's to look at and delete."""
        return self._directory.quarantined()

    def __repr__(self) -> str:
        return f"Catalog({self.root!r})"

    @contextmanager
    def _based_on(self, base: Base) -> Iterator[Generation | None]:
        """The generation to refer to; inside the block it is not removed."""
        if base is None or (base == "auto" and self._full_every is None):
            yield None
            return
        check_may_refer(self.root, f"base={base!r}")
        if isinstance(base, str):
            if base not in ("auto", "newest"):
                raise ValueError(f'base={base!r}: expected a generation, a step, "newest", "auto" or None')
            most = self._full_every - 1 if base == "auto" and self._full_every is not None else None
            chosen = newest_base(self._directory, max_increments=most)
            with nullcontext() if chosen is None else chosen.lease:
                yield None if chosen is None else chosen.generation
            return
        generation = (
            base if isinstance(base, Generation) else newest_of_step(self._directory, checked_step(base, name="base"))
        )
        if os.path.realpath(os.path.dirname(generation.path)) != os.path.realpath(self.root):
            raise ValueError(f"base={generation.path!r} is no generation of {self.root!r}")
        lease = generation.lease()
        if lease is None:
            raise IncompleteSnapshotError(errno.ENOENT, "no such generation any more", generation.path, path=self.root)
        with lease:
            yield generation

    @contextmanager
    def _prepared(
        self,
        step: int,
        app_state: AppState,
        metrics: Mapping[str, float] | None,
        replicated: Sequence[str] | None,
        *,
        pinned: bool,
        durable: bool,
        progress: bool | None,
        base: Base,
    ) -> Iterator[tuple[GenerationAnnex, TakeRequest]]:
        """What a save needs, the same on all ranks; inside the block what it refers to is not removed."""
        with ExitStack() as leases:
            with Ranks.of(self._pg).begin("saving a generation") as exchange:
                step = checked_step(step)
                globs = checked_globs(replicated)
                plain_metrics = checked_metrics(metrics)
                if exchange.world_size > 1:
                    refuse_increments(base, self._full_every)
                agree_on_call(exchange, self.root, step)
                based_on = leases.enter_context(self._based_on(base))
                increments = 0 if based_on is None else self._directory.record_of(based_on).increments + 1
                draft = agree_on_draft(
                    exchange,
                    self.root,
                    lambda: draft_generation(
                        self._directory, step, plain_metrics, pinned=bool(pinned), durable=bool(durable)
                    ),
                )
            path = self._directory.path_of(draft.id)
            kind = GenerationAnnex if exchange.rank == 0 else AnnexOfRank0
            annex = kind(draft, self._directory, self.retention, increments=increments)
            yield (
                annex,
                TakeRequest(
                    path=path,
                    app_state=app_state,
                    pg=self._pg,
                    durable=draft.durable,
                    progress=progress,
                    annex=annex,
                    base=None if based_on is None else based_on.path,
                    fingerprints=self._full_every is not None,
                    compression=self._compression,
                    signer=self._directory.signer,
                    storage_options=self._directory.storage_options,
                    replicated=globs,
                ),
            )

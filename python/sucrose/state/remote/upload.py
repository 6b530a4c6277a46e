"""Steps 1 to 5 of a save: one generation on its way to the server."""

from __future__ import annotations

import errno
import hashlib
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from importlib.metadata import version

from sucrose.errors import CorruptionError, NotDurableError, StorageError, SucroseError, UnsupportedError
from sucrose.formats.signing_keys import Signer
from sucrose.state.remote import scripts
from sucrose.state.remote.address import Address
from sucrose.state.remote.chunks import cut, storage_sizes
from sucrose.state.remote.failures import failure
from sucrose.state.remote.keys import JobKeys, chunk_field
from sucrose.state.remote.record import (
    CHUNK_NBYTES,
    DIGEST_NAME,
    MAX_NUMBER,
    RECORD_VERSION,
    GenerationRecord,
    StateRecord,
    check_storages,
    encode_record,
)
from sucrose.state.remote.session import Command, Session, script_command
from sucrose.state.values import FrozenState

logger = logging.getLogger(__name__)

UNCOMMITTED_TTL_S = 3600
"""How long the server keeps chunks of a save of which it hears nothing more; far beyond any time-out."""
BATCH_NBYTES = 8 << 20
"""Sent before answers are waited for: enough that the network does not idle, little for both sides to hold."""
BATCH_CHUNKS = 256
"""At most so many in a batch, where they are small."""

_WRITER = f"torch-sucrose {version('torch-sucrose')}"
_MAX_NUMBERS_TRIED = 100
_MAX_REMOVED_AT_ONCE = 100  # so that a smaller keep_last holds no single save up; the next ones remove the rest


class Upload:
    """One generation, saved by `run`. For one thread."""

    def __init__(self, address: Address, signer: Signer | None, keep_last: int | None) -> None:
        self._address = address
        self._signer = signer
        self._keep_last = keep_last
        self._keys = JobKeys(address.job_id)
        self._doing = f"saving the states of {address}"
        self._writer = secrets.token_hex(16)
        self._number = 0
        """Of the generation; 0 before it has one."""

    def run(self, states: Mapping[str, FrozenState]) -> int:
        """Adds a generation and returns its number.

        Raises:
            UnsupportedError: the name of a state is no proper text, or there are too many tensors.
            NotDurableError: it is there, but the server has not synced it to its disk.
            StorageError: it could not be written; what the server had before is untouched.
            ConfigError: the server refuses this user.
        """
        _check_names(states)
        check_storages(len(state.storages) for state in states.values())
        try:
            with closing(Session(self._address, self._doing)) as session:
                self._number = self._begin(session)
                records = dict(self._send_states(session, states))
            is_durable = self._commit(records)
        except Exception as error:
            if getattr(error, "errno", None) != errno.ETIMEDOUT:  # the server would not answer to this either
                self._abandon()
            raise
        self._remove_old()
        if not is_durable:
            raise NotDurableError(
                errno.ETIMEDOUT,
                f"{self._doing}: generation {self._number} is there, but within {self._address.timeout_s / 2:g} s the "
                "server has not synced its append-only file: should it lose power, it may come back without it",
                path=str(self._address),
            )
        return self._number

    def _begin(self, session: Session) -> int:
        """Step 1."""
        keys = self._keys
        for _ in range(_MAX_NUMBERS_TRIED):
            number = int(session.run_script(scripts.ALLOCATE, [keys.counter, keys.generations]))
            if not 0 < number < MAX_NUMBER:
                message = f"{keys.counter} is at {number}, where no save can have brought it: choose another job_id"
                raise CorruptionError(f"{self._doing} failed: {message}", path=str(self._address))
            start = [keys.generations, keys.chunks(number)]
            if session.run_script(scripts.START, start, number, UNCOMMITTED_TTL_S, self._writer):
                return number
        raise self._error(errno.EEXIST, f"the next {_MAX_NUMBERS_TRIED} numbers are taken: choose another job_id")

    def _send_states(self, session: Session, states: Mapping[str, FrozenState]) -> Iterator[tuple[str, StateRecord]]:
        """Step 2."""
        batch: list[Command] = []
        batch_nbytes = 0
        for index, (key, state) in enumerate(states.items()):
            digests = []
            for number, chunk in enumerate(cut(state)):
                digests.append(hashlib.sha256(chunk).hexdigest())
                batch.append(("HSET", self._keys.chunks(self._number), chunk_field(index, number), chunk))
                batch_nbytes += len(chunk)
                if batch_nbytes >= BATCH_NBYTES or len(batch) == BATCH_CHUNKS:
                    self._send(session, batch)
                    batch = []
                    batch_nbytes = 0
            yield key, StateRecord(len(state.pickled), storage_sizes(state), "".join(digests))
        self._send(session, batch)

    def _send(self, session: Session, batch: list[Command]) -> None:
        renewed = [self._keys.generations, self._keys.chunks(self._number)]
        session.run(*batch, script_command(scripts.RENEW, renewed, self._number, UNCOMMITTED_TTL_S))

    def _commit(self, states: dict[str, StateRecord]) -> bool:
        """Steps 3 and 4; whether the generation is as durable as the server can make it."""
        record = GenerationRecord(
            format_version=RECORD_VERSION,
            writer=_WRITER,
            job=self._keys.job,
            generation=self._number,
            written_ns=time.time_ns(),
            digest=DIGEST_NAME,
            chunk_nbytes=CHUNK_NBYTES,
            states=states,
        )
        fields = 1 + sum(len(state.chunk_digests()) for state in states.values())
        keys = self._keys
        commit = script_command(
            scripts.COMMIT,
            [keys.generations, keys.records, keys.chunks(self._number)],
            self._number,
            encode_record(record, self._signer),
            self._writer,
            fields,
        )
        half_s = self._address.timeout_s / 2  # so that its answer comes before the connection gives up
        doing = f"committing generation {self._number} of {self._address}, which is there whole or not at all,"
        with closing(Session(self._address, doing)) as session:
            is_committed, synced = session.try_run(commit, ("WAITAOF", 1, 0, max(1, int(1000 * half_s))))
        if isinstance(is_committed, Exception):
            raise failure(is_committed, self._doing, self._address) from is_committed
        if not is_committed:
            raise self._error(
                errno.EIO,
                "the server has dropped chunks while it was getting others: let its maxmemory-policy be noeviction",
            )
        return _is_synced(synced)

    def _remove_old(self) -> None:
        """Step 5. What cannot be removed now is by a later save."""
        if self._keep_last is None:
            return
        keys = self._keys
        try:
            with closing(Session(self._address, f"removing old states of {self._address}")) as session:
                (old,) = session.run(("ZRANGE", keys.generations, 0, -self._keep_last - 1))
                # Later ones than this may be broken, for all that is known here; this one is not.
                numbers = [int(number) for number in old if number.isdigit() and int(number) < self._number]
                for number in numbers[:_MAX_REMOVED_AT_ONCE]:
                    session.run_script(scripts.REMOVE, [keys.generations, keys.records, keys.chunks(number)], number)
        except SucroseError as error:
            logger.warning("%s", error)

    def _abandon(self) -> None:
        """Frees what was sent; where that fails, too, the time to live does."""
        if self._number:
            keys = self._keys
            with suppress(SucroseError), closing(Session(self._address, self._doing)) as session:
                session.run_script(
                    scripts.ABANDON, [keys.generations, keys.chunks(self._number)], self._number, self._writer
                )

    def _error(self, code: int, why: str) -> StorageError:
        return StorageError(code, f"{self._doing} failed: {why}", path=str(self._address))


def _check_names(states: Mapping[str, FrozenState]) -> None:
    for key in states:
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise UnsupportedError(
                f"{key!r} cannot be the name of a state: it has halves of characters", key=key
            ) from error


def _is_synced(reply: object) -> bool:
    """What WAITAOF says. Servers before 7.2, and those without an append-only file, refuse it."""
    return isinstance(reply, Exception) or (isinstance(reply, list) and bool(reply) and bool(reply[0]))

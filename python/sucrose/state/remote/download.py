"""Finding the newest generation that is whole, and reading it."""

from __future__ import annotations

import errno
import hashlib
import logging
import time
from collections.abc import Iterator

import msgspec

from sucrose.errors import CorruptionError, StorageError, SucroseError
from sucrose.formats.limits import MAX_STATE_RECORD_NBYTES as MAX_RECORD_NBYTES
from sucrose.formats.signing_keys import Signer
from sucrose.state.remote import scripts
from sucrose.state.remote.address import Address
from sucrose.state.remote.chunks import StateBuilder
from sucrose.state.remote.keys import JobKeys, chunk_field
from sucrose.state.remote.record import (
    CHUNK_NBYTES,
    GenerationRecord,
    StateRecord,
    decode_record,
)
from sucrose.state.remote.session import Session
from sucrose.state.values import FrozenState

logger = logging.getLogger(__name__)

QUARANTINE_TTL_S = 7 * 24 * 3600
"""How long the chunks of a broken generation are kept for whoever wants to look at them."""

_BATCH_CHUNKS = 2
_BATCH_SIZES = 1000
_MAX_OVERTAKEN = 10  # generations that others replaced while they were read


class Download:
    """Reads generations of one job. For one thread."""

    def __init__(self, session: Session, signer: Signer | None) -> None:
        self._session = session
        self._signer = signer
        self._address: Address = session.address
        self._keys = JobKeys(session.address.job_id)

    def newest(self) -> tuple[int, dict[str, FrozenState]] | None:
        """Number and states of the newest generation that verifies; broken ones go to quarantine.

        Raises:
            UnsafeObjectError: the newest is not signed with our key.
            FormatVersionError: the newest was written by a newer release.
            StorageError: the server cannot be reached or gives no answer.
        """
        below = "+inf"
        overtaken = 0
        while (found := self._newest_below(below)) is not None:
            member, score = found
            number = int(member) if member.isdigit() and len(member) <= 16 else None
            try:
                if number is None or float(score) != number:
                    raise CorruptionError(f"{self._address}: {member[:40]!r} is no number of a generation")
                return number, self.read(number)
            except CorruptionError as error:
                if self._quarantine(member, error):
                    below = f"({score.decode('ascii', 'replace')}"
                    continue
            overtaken += 1  # removed by the retention of a program that has saved a newer one
            if overtaken == _MAX_OVERTAKEN:
                raise StorageError(
                    errno.EAGAIN,
                    f"{self._address}: other programs replace its generations faster than they can be read: "
                    "raise keep_last, or save less often",
                    path=str(self._address),
                )
            below = "+inf"
        return None

    def read(self, number: int) -> dict[str, FrozenState]:
        """All states of a generation, checked.

        Raises:
            CorruptionError: it is broken, or not there any more.
        """
        record = self._record(number)
        states = {}
        for index, (key, state) in enumerate(record.states.items()):
            builder = StateBuilder(state, self._name(number))
            for chunk in self._chunks(number, index, key, state):
                builder.add(chunk)
            states[key] = builder.finish()
        return states

    def _newest_below(self, score: str) -> tuple[bytes, bytes] | None:
        (reply,) = self._session.run(
            ("ZREVRANGEBYSCORE", self._keys.generations, score, "-inf", "WITHSCORES", "LIMIT", 0, 1)
        )
        return (reply[0], reply[1]) if reply else None

    def _record(self, number: int) -> GenerationRecord:
        (nbytes,) = self._session.run(("HSTRLEN", self._keys.records, number))
        if nbytes > MAX_RECORD_NBYTES:
            raise CorruptionError(f"the record of {self._name(number)} has {nbytes} bytes, which no save writes")
        (value,) = self._session.run(("HGET", self._keys.records, number))
        if value is None:
            raise CorruptionError(f"{self._name(number)} has no record", path=self._name(number))
        return decode_record(value, self._signer, job=self._keys.job, generation=number, where=self._name(number))

    def _chunks(self, number: int, index: int, key: str, state: StateRecord) -> Iterator[bytes]:
        """The chunks of a state, in their order, each with the digest that it should have."""
        chunks_key = self._keys.chunks(number)
        digests = state.chunk_digests()
        last = len(digests) - 1
        for start in range(0, len(digests), _BATCH_SIZES):
            # Sizes first: nobody knows what the server has under these names.
            chunks = range(start, min(start + _BATCH_SIZES, len(digests)))
            sizes = self._session.run(*(("HSTRLEN", chunks_key, chunk_field(index, chunk)) for chunk in chunks))
            for chunk, found in zip(chunks, sizes, strict=True):
                expected = state.nbytes - last * CHUNK_NBYTES if chunk == last else CHUNK_NBYTES
                if found != expected:
                    what = f"has {found} bytes instead of {expected}" if found else "is missing"
                    raise self._broken(number, key, chunk, what)
        for start in range(0, len(digests), _BATCH_CHUNKS):
            chunks = range(start, min(start + _BATCH_CHUNKS, len(digests)))
            values = self._session.run(*(("HGET", chunks_key, chunk_field(index, chunk)) for chunk in chunks))
            for chunk, value in zip(chunks, values, strict=True):
                if value is None:
                    raise self._broken(number, key, chunk, "is missing")
                found = hashlib.sha256(value).digest()
                if found != digests[chunk]:
                    raise self._broken(number, key, chunk, f"has digest {found.hex()} != {digests[chunk].hex()}")
                yield value

    def _quarantine(self, member: bytes, error: CorruptionError) -> bool:
        """Sets a generation aside; False where it is not there any more."""
        keys = self._keys
        member_keys = [keys.generations, keys.records, keys.chunks(member.decode("latin-1")), keys.quarantine]
        report = msgspec.json.encode({"reason": str(error), "quarantined_ns": time.time_ns()})
        try:
            is_there = self._session.run_script(scripts.QUARANTINE, member_keys, member, report, QUARANTINE_TTL_S)
        except SucroseError as refusal:  # it is full, a replica, or this user may only read
            (is_there,) = self._session.run(("ZSCORE", keys.generations, member))
            if is_there:
                logger.warning("%s; an older generation is used, and the broken one stays: %s", error, refusal)
        else:
            if is_there:
                logger.warning("%s; it is in quarantine now, and an older generation is used", error)
        return bool(is_there)

    def _name(self, number: int) -> str:
        return f"generation {number} of {self._address}"

    def _broken(self, number: int, key: str, chunk: int, what: str) -> CorruptionError:
        message = f"chunk {chunk} of {key!r} in {self._name(number)} {what}"
        return CorruptionError(message, path=self._name(number), key=key)

"""Names of a job's keys on the server.

| key | type | contents |
| --- | --- | --- |
| `JOB:counter` | string | the last number given to a generation |
| `JOB:generations` | sorted set | numbers of the committed generations, by themselves |
| `JOB:records` | hash | number → record, see `record.py` |
| `JOB:chunks:NUMBER` | hash | `STATE.CHUNK` (counted from 0) → bytes, and `writer` |
| `JOB:quarantine` | hash | number → why it is broken; `NUMBER:record` → its record, if there was one |

`JOB` is the job's id, percent-encoded: it has no colon, so that no job's keys are another's.
"""

from __future__ import annotations

from urllib.parse import quote

WRITER_FIELD = "writer"
"""Marks the hash of chunks as made by one save."""


class JobKeys:
    """The keys of one job."""

    def __init__(self, job_id: str) -> None:
        self.job = quote(job_id, safe="", errors="surrogateescape")
        self.counter = f"{self.job}:counter"
        self.generations = f"{self.job}:generations"
        self.records = f"{self.job}:records"
        self.quarantine = f"{self.job}:quarantine"

    def chunks(self, number: int | str) -> str:
        """The hash of a generation's chunks."""
        return f"{self.job}:chunks:{number}"


def chunk_field(state: int, chunk: int) -> str:
    """Where the hash has a chunk: counted in the state, and the state counted in the record."""
    return f"{state}.{chunk}"

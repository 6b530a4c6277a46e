"""States on a server that speaks the Redis protocol.

A save, in this order:

1. Take the next number of the job, and make the hash for the generation's chunks. That hash has a time
   to live: if the writer dies, the server removes it.
2. Send the chunks, a few at a time, and renew the time to live with each batch.
3. Commit, in one script: check that all chunks are there, put the record, take the time to live away,
   and add the number to the set of generations. Nobody looks at chunks whose number is not in that set.
4. Wait until the server has synced its append-only file, where it has one and can tell.
5. Remove generations that `keep_last` does not cover, each in one script.

Every step may be repeated, so a step whose answer was lost is sent again on a new connection. Each
operation has connections of its own: signal handlers, threads and forked children share none.
"""

from __future__ import annotations

from sucrose.state.remote.checkpoints import RemoteCheckpoints

__all__ = ["RemoteCheckpoints"]

"""What a power cut may leave of a folder.

`record` writes down what the package does to the files below a folder; `states` puts the folder together again as a
power cut at any moment of that may leave it, and lets a test judge. The model is a strict reading of POSIX: nothing
is safe but what an fsync has made so. File systems keep more than that, each in its own way; what survives here
survives on all of them.

Of the file system it is assumed:

1. An fsync that returns has put the file's bytes and size on the disk, of all writes, truncations and preallocations
   that had ended when it began. An fsync of a folder has done so with the names in it: those that were created,
   renamed to or from, and removed. It says nothing of the folder's own name, nor of the files' bytes.
2. Each change of a name is atomic: a rename, and an exchange of two names, is there as a whole or not at all. One that
   concerns two folders is safe as soon as either has been fsynced, since its names are then, and the others with them.
3. A sector of 512 bytes is on the disk as it was before a write or after it, not in between.

Everything else may be otherwise, at a power cut at any moment:

- Of the changes to a file that are not safe any subset is there, those that were under way included. Of a write:
  nothing; all; its first bytes; any of its sectors; or its place in the file, as zeros.
- Of the changes of names that are not safe any subset is there, independently of each other and of the files' bytes.
  One whose object is not where it should be has no effect: a file that was never there cannot be renamed.
- An fsync that has failed has made nothing safe, and what it was to make safe never will be, whatever a later fsync
  says: kernels forget that such pages are unwritten.

Symbolic and hard links, permissions and times are not replayed. Files that somebody else changes meanwhile are
noticed: `IncompleteTraceError`.

Example:
    >>> import tempfile, torch
    >>> from sucrose import Snapshot, StateDict
    >>> from sucrose.testing import crash
    >>> folder = tempfile.mkdtemp()
    >>> with crash.record(folder) as recording:
    ...     snapshot = Snapshot.take(f"{folder}/step_1", {"state": StateDict(weight=torch.ones(3))})
    ...     recording.mark("saved")
    >>> for state in crash.states(recording.trace, tempfile.mkdtemp(), seed=1, per_point=4):
    ...     try:
    ...         intact = bool(Snapshot(f"{state.folder}/step_1").verify())
    ...     except FileNotFoundError:
    ...         intact = None  # nothing there: as before
    ...     assert intact or (intact is None and "saved" not in state.marks), state
"""

from __future__ import annotations

from sucrose.testing.crash.recording import IncompleteTraceError, Recording, Trace, record
from sucrose.testing.crash.states import CrashState, states

__all__ = ["CrashState", "IncompleteTraceError", "Recording", "Trace", "record", "states"]

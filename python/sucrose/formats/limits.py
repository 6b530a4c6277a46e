"""How much of anything a reader accepts from a file, each with its reason. See docs/format.md, "Limits".

They bound what a damaged or hostile file costs before it is refused. Whoever reads checks first what a file claims
against these and against the file's real size, and allocates only then. Writers keep to them, too, so that what was
saved can be restored.
"""

from __future__ import annotations

# --- snapshots --------------------------------------------------------------------------------------------------------

MAX_METADATA_NBYTES = 1 << 30
"""Of `.snapshot_metadata`: some 250 bytes for each tensor or shard, so 4 million of them, which is 2,000 tensors spread
over 2,048 ranks. Parsed it takes ten times that."""

MAX_YAML_NBYTES = 64 << 20
"""Of metadata in YAML, as older releases of torchsnapshot wrote it: a node takes 100 times the memory of its text."""

MAX_INDEX_NBYTES = 1 << 30
"""Of `.snapshot_index`: 32 digits for each chunk of 4 MiB, so more than 100 TiB of tensors."""

MAX_YAML_NESTING = 50
"""Nodes inside each other in it: a part of a tensor has seven, and a parser needs C stack for each."""

MAX_ENTRIES = 1 << 22
"""Of a manifest. The shortest entries take 20 bytes, so that the size alone would allow 25 million."""

MAX_NESTING = 300
"""Containers inside each other. Restoring takes two calls for each, of the 1,000 that Python allows by default."""

MAX_WORLD_SIZE = 1 << 17
"""Ranks of a snapshot: no job has more devices."""

MAX_LOCATION_NBYTES = 4095
"""Of a file's name in a snapshot: what Linux takes as a path."""

MAX_NDIM = 64
"""Dimensions of a tensor: torch's own limit."""

MAX_DIMENSION = (1 << 62) - 1
"""Length of one dimension, so that an offset plus a length is below 2^63."""

MAX_TENSOR_NBYTES = (1 << 63) - (8 << 10)
"""Of a tensor, as of any file that could hold it: offsets are signed 64-bit numbers."""

MAX_SPLIT_DIMENSIONS = 8
"""Dimensions along which the parts of a tensor may be split: a mesh has two or three. Checking takes 2^n steps each."""

MAX_READS_OF_BASE = 64
"""How often the bytes of a base may become memory of a snapshot's own: tensors that were tied in it and are no more."""

MAX_SIMILAR_SEARCHED = 20_000
"""Paths among which near matches are looked for when there is no such path: each takes some 20 µs."""

# --- records beside them ----------------------------------------------------------------------------------------------

MAX_GENERATION_NBYTES = 16 << 20
"""Of `.generation`: its metrics, some 40 bytes each."""

MAX_SIGNATURE_NBYTES = 4 << 10
"""Of `.snapshot_signature`: a few lines."""

MAX_RECORD_NBYTES = 16 << 20
"""Of a scenario's record: its configuration and its metrics."""

MAX_REASON_NBYTES = 64 << 10
"""Of the reason that stands beside something in quarantine."""

MAX_STATE_RECORD_NBYTES = 32 << 20
"""Of the record of a generation on a server; one of this size speaks for 2 TiB of chunks."""

MAX_STORAGES = 1 << 20
"""In one generation on a server: each costs memory even if it is empty."""

# --- checkpoints of others --------------------------------------------------------------------------------------------

MAX_DCP_METADATA_NBYTES = 4 << 30
"""Of the `.metadata` of `torch.distributed.checkpoint`: a tensor takes some hundred bytes."""

# --- single files -----------------------------------------------------------------------------------------------------

MAX_HEADER_NBYTES = 100_000_000
"""Of a safetensors file's header: other readers refuse longer ones."""

MAX_ZIP_DIRECTORY_NBYTES = 256 << 20
"""Of the central directory of a `torch.save` file: some 100 bytes for each storage, so 2.5 million of them."""

MAX_PICKLE_NESTING = 1_000
"""Tuples, lists and dicts inside each other in a pickle from a stranger: hashing a tuple takes C stack for each."""

MAX_PICKLE_HASHING = 64
"""Elements that the keys of a pickle from a stranger may make Python hash, for each byte of it. Tuples that hold the
same tuple twice, thirty times over, would be a billion in a hundred bytes."""

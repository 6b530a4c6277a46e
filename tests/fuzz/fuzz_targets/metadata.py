"""`.snapshot_metadata`, in JSON and YAML, and what is looked up in it."""

from __future__ import annotations

from contextlib import suppress

from sucrose.errors import SucroseError
from sucrose.formats.manifest import (
    ChunkedTensorEntry,
    DTensorEntry,
    PrimitiveEntry,
    ShardedTensorEntry,
    SnapshotMetadata,
    TensorEntry,
    decode_metadata,
    encode_metadata,
)
from sucrose.snapshot.entries import check_tensor_entry, find_entry, shards_of
from sucrose.snapshot.verify import ranges_by_file

JSON = b"""{"version":"0.1.0","world_size":2,"manifest":{
"0/s":{"type":"dict","keys":["t","c","sh",1,"f","b"]},
"0/s/t":{"type":"Tensor","location":"data/0_0.safetensors","serializer":"buffer_protocol","dtype":"torch.int16",
 "shape":[2,3],"replicated":true,"byte_range":[4096,4108]},
"0/s/c":{"type":"ChunkedTensor","dtype":"torch.float32","shape":[4],"replicated":false,"chunks":[
 {"offsets":[0],"sizes":[3],"tensor":{"type":"Tensor","location":"0/c","serializer":"buffer_protocol",
  "dtype":"torch.float32","shape":[3],"replicated":false}},
 {"offsets":[3],"sizes":[1],"tensor":{"type":"Tensor","location":"0/d","serializer":"torch_save",
  "dtype":"torch.float32","shape":[1],"replicated":false,"byte_range":null}}]},
"0/s/sh":{"type":"ShardedTensor","shards":[{"offsets":[0,0],"sizes":[1,2],"tensor":{"type":"Tensor","location":"sharded/a",
 "serializer":"buffer_protocol","dtype":"torch.bool","shape":[1,2],"replicated":false}}]},
"1/s/sh":{"type":"DTensor","mesh":[0,1],"dim_map":[[0],[-1]],"shards":[{"offsets":[1,0],"sizes":[1,2],"tensor":{"type":
 "Tensor","location":"sharded/b","serializer":"buffer_protocol","dtype":"torch.bool","shape":[1,2],"replicated":false}}]},
"0/s/1":{"type":"int","serialized_value":"-7","replicated":false},
"0/s/f":{"type":"float","serialized_value":"AAAAAAAA8D8=","replicated":false,"readable":"1.0"},
"0/s/b":{"type":"bytes","serialized_value":"AAE=","replicated":false},
"0/l":{"type":"list"},"0/l/0":{"type":"object","location":"objects/0/l/0","serializer":"torch_save","obj_type":"x","replicated":
 false}}}"""

YAML = b"""version: 0.1.0
world_size: 1
manifest:
  0/s: {type: dict, keys: [t]}
  0/s/t:
    type: Tensor
    location: 0/s/t
    serializer: buffer_protocol
    dtype: torch.float32
    shape: [2]
    replicated: false
"""


def seeds() -> dict[str, bytes]:
    """JSON with every kind of entry, and YAML."""
    return {"every_entry.json": JSON, "old.yaml": YAML}


def check(data: bytes) -> None:
    """What is accepted is the same after another round trip."""
    with suppress(SucroseError):
        metadata = decode_metadata(data, path="metadata")
        again = decode_metadata(encode_metadata(metadata), path="metadata")
        assert again == metadata
        ranges_by_file(metadata)
        with suppress(SucroseError):
            find_entry(metadata, "1/s/t")
        for path in list(metadata.manifest)[:50]:
            _check_entry(metadata, path)


def _check_entry(metadata: SnapshotMetadata, path: str) -> None:
    entry = metadata.manifest[path]
    with suppress(SucroseError):
        if isinstance(entry, (ChunkedTensorEntry, ShardedTensorEntry, DTensorEntry)):
            shards_of(metadata, path, entry)
        elif isinstance(entry, TensorEntry):
            check_tensor_entry(path, entry)
        elif isinstance(entry, PrimitiveEntry):
            with suppress(ValueError):  # StateReader names the entry
                entry.get_value()

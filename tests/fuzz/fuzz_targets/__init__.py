"""What is fuzzed: one module for each kind of bytes that come from a disk, named as its folder below `corpus/`.

Each has `seeds()`, samples that the product itself makes, and `check(data)`, which hands the bytes to the product and
passes where that returns something consistent, or raises an error of its documented kinds. Anything else is a finding.
"""

from __future__ import annotations

TARGETS = (
    "metadata",
    "index",
    "generation",
    "signature",
    "safetensors_header",
    "zip_directory",
    "plain_pickle",
    "weights_only_pickle",
    "object_file",
    "dcp_metadata",
    "single_file",
    "scenario_record",
    "state_record",
    "catalog_folder",
    "event_file",
    "encoded_chunks",
    "snapshot",
)

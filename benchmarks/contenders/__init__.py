"""The contenders, by name. A new one is a class in a file of its own, listed here."""

from __future__ import annotations

from benchmarks.contenders.base import Contender, Role
from benchmarks.contenders.dcp import (
    DistributedCheckpoint,
    DistributedCheckpointAsync,
    DistributedCheckpointStager,
    DistributedCheckpointZstd,
)
from benchmarks.contenders.fastsafetensors import FastSafetensors
from benchmarks.contenders.memcpy import Memcpy
from benchmarks.contenders.object_store import (
    Boto3Transfer,
    DistributedCheckpointOnObjectStore,
    S3fsTransfer,
    SucroseOnObjectStore,
)
from benchmarks.contenders.on_ranks import DistributedCheckpointOnRanks, SucroseOnRanks
from benchmarks.contenders.pinned_copy import PinnedCopy
from benchmarks.contenders.runai import RunaiModelStreamer
from benchmarks.contenders.safetensors_file import Safetensors, SafetensorsMap
from benchmarks.contenders.sucrose_engine import EngineDigest, EngineNoDigest
from benchmarks.contenders.sucrose_file import SucroseFile
from benchmarks.contenders.sucrose_incremental import SucroseFrozen, SucroseRows, SucroseSame
from benchmarks.contenders.sucrose_layers import SucroseCatalog, SucroseStates
from benchmarks.contenders.sucrose_scenario import SucroseScenario, SucroseScenarioHeld, SucroseScenarioSnapshot
from benchmarks.contenders.sucrose_snapshot import (
    SucroseAsync,
    SucroseAuto,
    SucroseCompressed,
    SucroseSnapshot,
    SucroseUnverified,
    SucroseZstd1,
    SucroseZstd1Filter,
    SucroseZstd3,
    SucroseZstd3Filter,
)
from benchmarks.contenders.tensorizer import Tensorizer
from benchmarks.contenders.torch_checkpointing import TorchCheckpointing, TorchCheckpointingAsync
from benchmarks.contenders.torch_pickle import TorchPickle
from benchmarks.contenders.torchsnapshot import TorchSnapshot, TorchSnapshotAsync

__all__ = ["BY_NAME", "COMPRESSORS", "LOADERS", "SAVERS", "STALLERS", "Contender", "Role"]

SAVERS: tuple[type[Contender], ...] = (
    SucroseSnapshot,
    TorchPickle,
    Safetensors,
    DistributedCheckpoint,
    TorchSnapshot,
    TorchCheckpointing,
)
"""What a training program would save with."""

LOADERS: tuple[type[Contender], ...] = (
    *SAVERS,
    SucroseUnverified,
    SafetensorsMap,
    RunaiModelStreamer,
    FastSafetensors,
    Tensorizer,
)
"""What it would load with."""

STALLERS: tuple[type[Contender], ...] = (
    SucroseAsync,
    DistributedCheckpointAsync,
    DistributedCheckpointStager,
    TorchSnapshotAsync,
    TorchCheckpointingAsync,
    TorchPickle,
)
"""What it would save with in the background, and ``torch.save`` beside them, which stalls until its end."""

COMPRESSORS: tuple[type[Contender], ...] = (
    SucroseCompressed,
    SucroseAuto,
    SucroseZstd1Filter,
    SucroseZstd1,
    SucroseZstd3Filter,
    SucroseZstd3,
    DistributedCheckpointZstd,
)
"""What would make its files smaller."""

_ALL: tuple[type[Contender], ...] = (
    *LOADERS,
    SucroseFile,
    SucroseCatalog,
    SucroseFrozen,
    SucroseRows,
    SucroseSame,
    SucroseScenario,
    SucroseScenarioHeld,
    SucroseScenarioSnapshot,
    SucroseStates,
    EngineDigest,
    EngineNoDigest,
    SucroseOnRanks,
    DistributedCheckpointOnRanks,
    SucroseOnObjectStore,
    S3fsTransfer,
    Boto3Transfer,
    DistributedCheckpointOnObjectStore,
    Memcpy,
    PinnedCopy,
    *STALLERS,
    *COMPRESSORS,
)

BY_NAME: dict[str, type[Contender]] = {contender.name: contender for contender in _ALL}

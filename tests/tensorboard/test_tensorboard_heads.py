"""What is told of events without parsing them is what parsing tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from event_files import write_events
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event, LogMessage, SessionLog, TaggedRunMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import hparams

from sucrose.scenarios.tensorboard import event_records
from sucrose.scenarios.tensorboard.event_heads import read_heads

if TYPE_CHECKING:
    from pathlib import Path

SUMMARIES = [
    Summary(value=[Summary.Value(tag="loss", simple_value=0.5)]),
    Summary(value=[Summary.Value(tag="hparams/loss", simple_value=0.5)]),
    Summary(value=[Summary.Value(tag="image", image=Summary.Image(encoded_image_string=bytes(3000)))]),
    Summary(),
    *hparams({"lr": 0.1}, {"loss": 0.5}),
]
ABOUT: list[dict[str, Any]] = [
    {},
    {"file_version": "brain.Event:2"},
    {"graph_def": b"graph"},
    {"log_message": LogMessage(message="text")},
    {"tagged_run_metadata": TaggedRunMetadata(tag="run")},
    *({"session_log": SessionLog(status=status)} for status in (SessionLog.START, SessionLog.STOP)),
    *({"summary": summary} for summary in SUMMARIES),
]
EVENTS = st.builds(
    lambda wall_time, step, about: Event(wall_time=wall_time, step=step, **about),
    st.sampled_from([0.0, 1e9, -1.5]),
    st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300),
    st.sampled_from(ABOUT),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, min_size=1, max_size=30), block_nbytes=st.sampled_from([700, 1 << 20]))
def test_heads_say_what_the_events_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Any], block_nbytes: int
) -> None:
    monkeypatch.setattr(event_records, "_BLOCK_NBYTES", block_nbytes)
    path = tmp_path / "events"
    write_events(path, events)
    blocks = list(read_heads(str(path)))

    def all_of(name: str) -> list[Any]:
        return list(np.concatenate([getattr(block, name) for block in blocks]).tolist())

    kinds = [event.WhichOneof("what") for event in events]
    assert all_of("steps") == [event.step for event in events]
    assert all_of("are_points") == [kind == "summary" for kind in kinds]
    assert all_of("are_starts") == [event.session_log.status == SessionLog.START for event in events]
    assert all_of("are_hparams") == [event.summary in SUMMARIES[4:] for event in events]
    assert all_of("have_content") == [kind not in (None, "file_version", "session_log") for kind in kinds]
    ends = np.cumsum([len(event.SerializeToString()) + 16 for event in events]).tolist()
    assert all_of("ends") == ends
    assert all_of("begins") == [0, *ends[:-1]]

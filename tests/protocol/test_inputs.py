from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from mindsight.protocol.inputs import (
    AddEvent,
    CloseSession,
    EndRun,
    Input,
    OpenSession,
    SessionOptions,
    SkipVolume,
    StartRun,
    TakeVolume,
    dump_input,
    parse_input,
)
from mindsight.protocol.work import BetaWork, dump_work, parse_work

DIGEST = "ab" * 32
VOLUME = TakeVolume(t=5.0, run=3, index=17, digest=DIGEST, shape=(64, 64, 36), nbytes=9, acquired_s=4.0, acked_t=5.0)
ENTRIES: list[tuple[str, Input]] = [
    ("session", OpenSession(t=1.0, session="s", subject="sub-a", options=SessionOptions(fast_s=6.0, blinded=True))),
    ("run-3", StartRun(t=2.0, run=3, task="view", tr_s=1.97, n_volumes=155)),
    ("event-3-9", AddEvent(t=3.0, run=3, trial=9, onset_s=12.5, duration_s=3.0, stimulus=DIGEST, label="face")),
    ("event-3-at-12.5-889104b7c6a043a6-1", AddEvent(t=3.0, run=3, onset_s=12.5, duration_s=3.0, label="rest")),
    ("volume-3-17", VOLUME),
    ("volume-3-17", SkipVolume(t=5.0, run=3, index=17, reason="the scanner dropped it")),
    ("run-3-ended", EndRun(t=6.0, run=3)),
    ("session-closed", CloseSession(t=7.0)),
]


@pytest.mark.parametrize(("key", "entry"), ENTRIES)
def test_an_entry_survives_the_wire_and_knows_its_key(key: str, entry: Input) -> None:
    assert parse_input(dump_input(entry)) == entry
    assert entry.key == key
    again = entry.model_copy(update={"t": entry.t + 60.0})
    assert again.identity == entry.identity, "a retry an hour later is the same entry"


def test_another_declaration_has_another_identity() -> None:
    identities = [entry.identity for _, entry in ENTRIES]
    assert len(set(identities)) == len(identities)
    assert VOLUME.model_copy(update={"digest": "cd" * 32}).identity != VOLUME.identity
    assert VOLUME.model_copy(update={"acked_t": 6.0}).identity == VOLUME.identity


@pytest.mark.parametrize(
    "payload",
    [
        '{"type":"volume","t":1}',
        '{"type":"no such thing","t":1}',
        '{"type":"run.end","t":1,"run":0}',
        '{"type":"run.end","t":1,"run":1,"more":1}',
        '{"type":"run.end","t":1,"run":1,"v":2}',
        "not json",
    ],
)
def test_what_is_no_entry_is_refused(payload: str) -> None:
    with pytest.raises(ValidationError):
        parse_input(payload)


def test_work_survives_the_wire_and_is_named_after_its_result() -> None:
    work = BetaWork(session="s", run=1, trial=2, stage="fast", beta=DIGEST, logged_t=2.0)
    assert parse_work(dump_work(work)) == work
    of_before = json.loads(dump_work(work)) | {"subject": "sub-a", "n_volumes": 9, "n_voxels": 5, "volume_acked_t": 1.0}
    assert parse_work(json.dumps(of_before)) == work
    assert work.key == "s-1-2-fast"

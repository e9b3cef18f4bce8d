"""The archive waits for reconstructions, not only for results, and one refused job does not cut the others short."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from mindsight.archive import write_archive
from mindsight.bus import Lease, Log, WorkQueue
from mindsight.errors import Conflict, MindsightError
from mindsight.processes import is_gone, process_name
from mindsight.protocol import (
    NO_FITS,
    BetaReady,
    Captioned,
    Message,
    Reconstruction,
    ReconstructionFit,
    ReconstructionSkipped,
    Result,
    SessionArchived,
    Warned,
    dump_message,
)
from mindsight.protocol.inputs import StartRun
from mindsight.protocol.messages import Candidate
from support.house import House
from workers.ingest.runner import series_path, snapshot_path
from workers.jobs.archive import Archivist
from workers.jobs.gather import gather_session


def test_it_waits_while_there_is_work_and_no_longer(house: House) -> None:
    house.open("ses-a", "some-bundle")
    for trial in (1, 2):
        beta = BetaReady(
            session="ses-a", t=1.0, run=1, trial=trial, stage="final", n_volumes=9, n_voxels=5, flagged=False,
            beta="0" * 64,
        )  # fmt: skip
        Log(house.bus, "ses-a", "messages").append(f"beta-1-{trial}-final", dump_message(beta))
    WorkQueue(house.bus, "inference").put("one", b"x")
    WorkQueue(house.bus, "pictures").put("two", b"y")
    returned = threading.Event()

    def wait() -> None:
        Archivist(house.settings, house.bus, "ses-a", 20.0).await_results()
        returned.set()

    thread = threading.Thread(target=wait)
    thread.start()
    for name in ("inference", "pictures"):
        assert not returned.wait(0.7)
        job = WorkQueue(house.bus, name).take("test", 1.0)
        assert job is not None
        if name == "inference":
            job.reject("cannot be done")
        else:
            job.ack()
    began_s = time.monotonic()
    thread.join(10.0)
    assert returned.is_set()
    assert time.monotonic() - began_s < 5.0


ANSWER = {"session": "ses-a", "t": 1.0, "run": 1, "trial": 1, "stage": "final"}
DIGESTS = {name: 63 * "0" + name for name in "abcdef"}


def write_messages(house: House, *messages: Message) -> None:
    for message in messages:
        Log(house.bus, "ses-a", "messages").append(message.type, dump_message(message))


def test_what_was_drawn_and_captioned_is_kept_with_how_it_was_made(house: House, tmp_path: Path) -> None:
    house.open("ses-a", "some-bundle")
    write_messages(
        house,
        Result(
            **ANSWER, candidates=(Candidate(id="c", score=0.5, probability=0.5),), confidence=0.5,
            null_confidence=0.1, chance=0.1, pool_size=10, model=DIGESTS["a"], pool=DIGESTS["b"],
            normalised_by="bundle",
        ),
        Reconstruction(
            **ANSWER, image=DIGESTS["c"], seed=77, evaluations=4, generator=DIGESTS["d"], from_ranking=0.25
        ),
        ReconstructionFit(
            **ANSWER, image=DIGESTS["c"], token_cosine=0.8, fit_percentile=97.0, encoder=DIGESTS["f"]
        ),
        Captioned(**ANSWER, text="a dog on a lawn", model=DIGESTS["e"]),
    )  # fmt: skip
    archivist = Archivist(house.settings, house.bus, "ses-a")
    gathered = gather_session(archivist.journal, "ses-a", archivist.await_results(), house.settings)
    assert gathered.provenance["captioners"] == [DIGESTS["e"]]
    write_archive(gathered, tmp_path / "archive")
    (path,) = tmp_path.rglob("*_desc-decoding_results.jsonl")
    (row,) = (json.loads(line) for line in path.read_text().splitlines())
    assert gathered.provenance["encoders"] == [DIGESTS["f"]]
    assert row["caption"] == "a dog on a lawn"
    assert (row["confidence"], row["token_cosine"], row["fit_percentile"]) == (0.5, 0.8, 97.0)
    assert "confidence" not in row["drawing"]
    assert row["fit"]["encoder"] == DIGESTS["f"]
    assert row["captioning"]["model"] == DIGESTS["e"]
    assert row["reconstruction"] == DIGESTS["c"]
    assert row["drawing"]["seed"] == 77
    assert row["from_ranking"] == 0.25
    assert row["drawing"]["generator"] == DIGESTS["d"]


def test_of_a_stage_the_latest_version_is_kept_and_of_one_without_the_reason(house: House, tmp_path: Path) -> None:
    house.open("ses-a", "some-bundle")
    result = {
        "candidates": (Candidate(id="c", score=0.5, probability=0.5),), "confidence": 0.5, "null_confidence": 0.1,
        "chance": 0.1, "pool_size": 10, "model": DIGESTS["a"], "pool": DIGESTS["b"], "normalised_by": "bundle",
    }  # fmt: skip
    made = {"seed": 77, "evaluations": 4, "generator": DIGESTS["d"]}
    fast = ANSWER | {"stage": "fast"}
    log = Log(house.bus, "ses-a", "messages")
    messages = [
        Result(**fast, **result),
        ReconstructionSkipped(**fast, text="not drawn: a newer stage came first"),
        Result(**ANSWER, **result),
        Reconstruction(**ANSWER, **made, image=DIGESTS["f"], version="refined"),
        Reconstruction(**ANSWER, **made, image=DIGESTS["c"]),
        Reconstruction(**ANSWER, **made, image=DIGESTS["e"], version="preview"),
    ]
    for number, message in enumerate(messages):
        log.append(str(number), dump_message(message))
    archivist = Archivist(house.settings, house.bus, "ses-a")
    write_archive(
        gather_session(archivist.journal, "ses-a", archivist.await_results(), house.settings), tmp_path / "archive"
    )
    (path,) = tmp_path.rglob("*_desc-decoding_results.jsonl")
    skipped, refined = (json.loads(line) for line in path.read_text().splitlines())
    assert (refined["reconstruction"], refined["drawing"]["version"]) == (DIGESTS["f"], "refined")
    assert (skipped["reconstruction"], skipped["not_drawn"]) == (None, "not drawn: a newer stage came first")


RESULT = Result(
    **ANSWER, candidates=(Candidate(id="c", score=0.5, probability=0.5),), confidence=0.5,
    null_confidence=0.1, chance=0.1, pool_size=10, model=DIGESTS["a"], pool=DIGESTS["b"],
    normalised_by="bundle",
)  # fmt: skip
DRAWN = Reconstruction(**ANSWER, image=DIGESTS["c"], seed=77, evaluations=4, generator=DIGESTS["d"])


def test_the_fit_of_another_image_of_the_trial_is_not_this_ones(house: House) -> None:
    house.open("ses-a", "some-bundle")
    fit = ReconstructionFit(**ANSWER, image=DIGESTS["e"], token_cosine=0.8, encoder=DIGESTS["f"])
    write_messages(house, RESULT, DRAWN, fit)
    archivist = Archivist(house.settings, house.bus, "ses-a")
    gathered = gather_session(archivist.journal, "ses-a", archivist.await_results(), house.settings)
    (result,) = gathered.results
    assert (result.reconstruction, result.token_cosine, result.fit_percentile) == (DIGESTS["c"], None, None)


@pytest.mark.parametrize(
    "last",
    [
        ReconstructionFit(**ANSWER, image=DIGESTS["c"], token_cosine=0.8, encoder=DIGESTS["f"]),
        Warned(session="ses-a", t=1.0, code=NO_FITS, text="no encoder"),
    ],
    ids=["fit", "no fits"],
)
def test_it_waits_for_the_fit_or_for_the_warning_that_there_is_none(house: House, last: Message) -> None:
    house.open("ses-a", "some-bundle")
    beta = BetaReady(**ANSWER, n_volumes=9, n_voxels=5, flagged=False, beta="0" * 64)
    write_messages(house, beta, RESULT, DRAWN)
    WorkQueue(house.bus, "pictures").put("one", b"y")
    found: list[Message] = []
    archivist = Archivist(house.settings, house.bus, "ses-a", 20.0)
    thread = threading.Thread(target=lambda: found.extend(archivist.await_results()))
    thread.start()
    thread.join(0.7)
    assert thread.is_alive()
    write_messages(house, last)
    thread.join(10.0)
    assert not thread.is_alive()
    assert found[-1].type == last.type


def test_it_waits_for_captions_where_there_is_a_captioner(house: House) -> None:
    house.settings.captions_dir = Path("captions")
    house.open("ses-a", "some-bundle")
    write_messages(
        house,
        BetaReady(**ANSWER, n_volumes=9, n_voxels=5, flagged=False, beta="0" * 64),
        RESULT,
        DRAWN,
    )
    write_messages(house, Warned(session="ses-a", t=1.0, code=NO_FITS, text="no encoder"))
    WorkQueue(house.bus, "pictures").put("one", b"y")  # drawn, and still being captioned
    found: list[Message] = []
    archivist = Archivist(house.settings, house.bus, "ses-a", 20.0)
    thread = threading.Thread(target=lambda: found.extend(archivist.await_results()))
    thread.start()
    thread.join(0.7)
    assert thread.is_alive()
    write_messages(house, Captioned(**ANSWER, text="a dog on a lawn", model=DIGESTS["e"]))
    thread.join(10.0)
    assert not thread.is_alive()
    assert any(isinstance(message, Captioned) for message in found)


def test_one_archivist_at_a_time_writes_a_session(house: House) -> None:
    recorder = house.open("ses-a")
    recorder.start_run(StartRun(t=1.0, run=1, task="view", tr_s=2.0, n_volumes=1))
    recorder.close()
    for path in (snapshot_path(house.settings, "ses-a"), series_path(house.settings, "ses-a", 1)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"state")
    first = Lease.acquire(house.bus, "ses-a-archive", process_name(), 30.0, is_gone)
    assert first is not None
    with pytest.raises(Conflict, match="another process writes this archive"):
        Archivist(house.settings, house.bus, "ses-a", 20.0).archive()
    first.release()
    written = Archivist(house.settings, house.bus, "ses-a", 20.0).archive()
    assert any(written.iterdir())
    assert not list(house.settings.snapshots_dir.glob("ses-a*")), "the state that workers kept is gone"
    ended = Lease.acquire(house.bus, "ses-a-archive", f"{process_name()}0", 30.0)  # one that was killed while writing
    assert ended is not None
    (archived,) = (m for m in house.messages("ses-a") if isinstance(m, SessionArchived))
    assert archived.n_files == sum(path.is_file() for path in written.rglob("*")), "of all files, the report's too"
    assert Archivist(house.settings, house.bus, "ses-a", 20.0).archive() == written


def test_an_archive_that_cannot_be_written_is_told_once_to_those_who_watch(house: House) -> None:
    house.open("ses-a").close()
    house.settings.archive_dir.write_text("in the way")
    for _ in range(2):
        with pytest.raises((MindsightError, OSError)):
            Archivist(house.settings, house.bus, "ses-a", 20.0).archive()
    (told,) = (m for m in house.messages("ses-a") if isinstance(m, Warned))
    assert (told.code, told.level) == ("archive.failed", "error")
    assert str(house.settings.data_dir) not in told.text
    house.settings.archive_dir.unlink()
    Archivist(house.settings, house.bus, "ses-a", 20.0).archive()
    assert any(isinstance(m, SessionArchived) for m in house.messages("ses-a"))

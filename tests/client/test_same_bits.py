"""A recorded run decoded here, and sent to the service: the same betas and statistics, to the bit."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mindsight.archive import ArchivedEvent, ArchivedRun, ArchivedSession, write_archive
from mindsight.blobs import BlobStore
from mindsight.bus import Bus, Lease, Log, WorkQueue
from mindsight.cli.terminal import Terminal
from mindsight.client import Console
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoding import TrialDecoder
from mindsight.events import RunEvent, declare
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.operations.replay import replay
from mindsight.operations.stream import Destination, RunOptions, stream_recorded
from mindsight.preprocessing import brain_mask
from mindsight.protocol import VolumeProcessed, Warned, parse_message
from mindsight.protocol.inputs import parse_input
from mindsight.protocol.work import parse_work
from mindsight.retrieval import Calibration, CandidatePool
from mindsight.scanner import open_run
from mindsight.subjects.bundle.folder import Bundle
from support.gateway_harness import Running
from workers.ingest.runner import SessionRunner

N, TR_S = 24, 2.0
TABLE = """\
onset\tduration\ttrial_type\tstim_file
-2.5\t1\tface\ta/face.png
4\tn/a\thouse\ta/house.png
10\t1\tn/a\tn/a
10\t1\tn/a\tn/a
10\t0\tn/a\tn/a
16\t2\tn/a\ta/face.png
24\t2\tface\ta/face.png
60\t2\tface\ta/face.png
"""


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of blobs that drifts a little, with noise."""
    folder = tmp_path_factory.mktemp("run") / "run-1"
    folder.mkdir()
    rng = np.random.default_rng(0)
    x, y, z = np.mgrid[:16, :18, :12]
    inside = ((x - 7.5) / 6) ** 2 + ((y - 8.5) / 7) ** 2 + ((z - 5.5) / 4.5) ** 2 < 1
    still = ndimage.gaussian_filter(inside * (900 + 2000 * ndimage.gaussian_filter(rng.normal(size=x.shape), 1.2)), 0.6)
    data_XYZT = np.stack([ndimage.shift(still, (0.01 * t, 0, 0), order=3) for t in range(N)], axis=-1)
    data_XYZT += rng.normal(0, 6, data_XYZT.shape)
    image = nib.Nifti1Image(data_XYZT.astype(np.float32), np.diag([3.0, 3, 3, 1]))
    image.header.set_zooms((3, 3, 3, TR_S))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(folder / "bold.nii.gz")
    (folder / "events.tsv").write_text(TABLE)
    return folder


@pytest.fixture(scope="module")
def bundle(running: Running, run_folder: Path) -> Path:
    rng = np.random.default_rng(1)
    reference = next(iter(open_run(run_folder).volumes()))
    space = SubjectSpace(reference, brain_mask(reference.data))
    pool = CandidatePool(("face", "house"), np.eye(2, dtype=np.float32))
    z_KV = rng.normal(size=(8, space.n_voxels)).astype(np.float32)
    made = Bundle(
        subject="sub-test",
        created="2026-01-01T00:00:00+00:00",
        options=IngestOptions(normalise="running", min_betas=2, revised_s=15.0),
        space=space,
        statistics=Statistics(np.zeros(space.n_voxels, np.float32), np.ones(space.n_voxels, np.float32), 8),
        calibration=Calibration(temperature=0.05, null_confidence=0.2, log_loss=1.0, n=8),
        pool=pool,
        decoder=LinearDecoder.fit(z_KV, np.repeat(pool.embeddings, 4, axis=0)),
        labels="trial_type",
    )
    saved = made.save(running.settings.bundles_dir / "same").folder
    assert saved is not None
    return saved


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(np.stack(arrays), "<f4").tobytes()).hexdigest()


def here(folder: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Digests of what ``mindsight replay --bundle`` decodes."""
    seen: list[tuple[str, str]] = []
    retrieve = TrialDecoder.retrieve

    def noted(self: TrialDecoder, beta_V: np.ndarray, mean_V: np.ndarray, std_V: np.ndarray, **others: Any) -> object:
        seen.append((digest(beta_V), digest(mean_V, std_V)))
        return retrieve(self, beta_V, mean_V, std_V, **others)

    with monkeypatch.context() as patched:
        patched.setattr(TrialDecoder, "retrieve", noted)
        replay(folder, bundle, speed=math.inf, results=None, clock=time.perf_counter, sleep=time.sleep)
    return seen


def there(
    running: Running, bus: Bus, folder: Path, tmp_path: Path, resume_at: set[int]
) -> tuple[list[tuple[str, str]], str]:
    """The same of what ``mindsight stream`` brings to the decoder's queue, and the session."""
    key = running.keys["console"]
    with Console(running.url, key) as console:
        session = console.open_session(console.enrol("same"))
    stream_recorded(folder, Destination(session, key, running.url, tmp_path / "spool"), RunOptions(), Terminal())
    lease = Lease.acquire(bus, session, "test", 60.0)
    assert lease is not None
    queue, blobs = WorkQueue(bus, f"jobs-{session}"), BlobStore(running.settings.blobs_dir)
    fresh = (lease, bus, blobs, queue, running.settings)
    runner = SessionRunner(session, *fresh)
    for entry in Log(bus, session, "input").read():
        if entry.seq in resume_at:
            runner.save()
            runner = SessionRunner.resume(session, *fresh)
        runner.apply(entry.seq, parse_input(entry.payload))
    found = []
    unknown = np.zeros(runner.ingest.space.n_voxels), np.ones(runner.ingest.space.n_voxels)  # type: ignore[union-attr]
    while (job := queue.take("test", 0.01)) is not None:
        work = parse_work(job.payload)
        found.append((work.beta, work.statistics or digest(*unknown)))
        job.ack()
    return found, session


@pytest.mark.parametrize("motion", [None, "motion.txt", "func_mcf.par", "rp_func.txt"])
def test_the_service_gives_what_a_replay_gives(
    running: Running,
    bus: Bus,
    run_folder: Path,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    motion: str | None,
) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    for file in run_folder.iterdir():
        (folder / file.name).symlink_to(file)
    if motion is not None:
        parameters_T6 = np.cumsum(np.random.default_rng(2).normal(0, 0.02, (N, 6)), axis=0)
        parameters_T6[10:] += [0.8, 0, 0, 0, 0, 0]  # a jump that is censored where the order is known
        np.savetxt(folder / motion, parameters_T6)
    expected = here(folder, bundle, monkeypatch)
    found, session = there(running, bus, folder, tmp_path, {9, 20})
    assert len(expected) >= 11
    assert found == expected
    messages = [parse_message(entry.payload) for entry in Log(bus, session, "messages").read()]
    processed = [message for message in messages if isinstance(message, VolumeProcessed)]
    assert all((message.translation_mm is None) == (motion is not None) for message in processed)
    assert all((message.fd_mm is None) == (motion == "motion.txt") for message in processed[1:])
    warned = [(m.code, m.text) for m in messages if isinstance(m, Warned) and m.code.startswith("events.")]
    assert [code for code, _ in warned] == ["events.no_duration", "events.unmeasured"]
    assert "trial 5" in warned[1][1]


def test_motion_that_comes_with_a_run_is_what_makes_the_difference(
    run_folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    for file in run_folder.iterdir():
        (folder / file.name).symlink_to(file)
    without = here(folder, bundle, monkeypatch)
    np.savetxt(folder / "motion.txt", np.random.default_rng(2).normal(0, 0.02, (N, 6)))
    assert not {beta for beta, _ in without} & {beta for beta, _ in here(folder, bundle, monkeypatch)}


def test_an_archives_raw_data_decode_as_the_session_did(
    run_folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of trials, what was shown and the motion that came with the volumes are all in it."""
    folder = tmp_path / "run-1"
    folder.mkdir()
    for file in run_folder.iterdir():
        (folder / file.name).symlink_to(file)
    np.savetxt(folder / "rp_func.txt", np.random.default_rng(2).normal(0, 0.02, (N, 6)))
    recorded = open_run(folder)
    events = [
        ArchivedEvent(
            RunEvent(event.onset_s, event.duration_s, event.label, "0f.png" if event.trial else None),
            event.trial,
            candidate=event.stim_file,
        )
        for event in declare(recorded.events).events
    ]
    archived = ArchivedRun(
        run=1,
        task="view",
        tr_s=TR_S,
        n_volumes=N,
        volumes=recorded.volumes(),
        events=events,
        motion_T6=np.full((N, 6), np.nan),
        fd_mm_T=np.zeros(N),
        dvars_percent_T=np.zeros(N),
        censored_T=np.zeros(N, np.bool_),
        motion_order=recorded.motion_order,
    )
    write_archive(ArchivedSession(subject="a", session="b", runs=[archived]), tmp_path / "archive")
    (image,) = (tmp_path / "archive" / "rawdata").rglob("*_bold.nii.gz")
    again = open_run(image)
    assert again.motion_order == "translations"
    np.testing.assert_array_equal(again.motion_T6, recorded.motion_T6)
    assert declare(again.events).events == declare(recorded.events).events
    assert here(image, bundle, monkeypatch) == here(folder, bundle, monkeypatch)

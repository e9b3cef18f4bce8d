"""A real run through the real service, console to archive; and what a wrong command prints."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import scipy.io
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from mindsight.bus import Bus
from mindsight.bus.forget import mentions
from mindsight.cli import main
from mindsight.journal.read import Journal, entries
from mindsight.protocol import Message, VolumeProcessed, VolumeReceived, read_message
from support.live import DEADLINE_S, Service, is_archived
from support.seeded_dicom import UID_SEED, seeded
from workers.traces.otlp import readable, resource
from workers.traces.spans import SessionSpans

MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


def test_every_volume_arrives_once_and_in_order(trio: tuple[Path, list[Message]]) -> None:
    _, messages = trio
    for kind in (VolumeReceived, VolumeProcessed):
        assert [m.index for m in messages if isinstance(m, kind)] == list(range(155))
    assert [m.id for m in messages] == list(range(1, len(messages) + 1))
    assert not any("fanon" in m.model_dump_json() or "001_0000" in m.model_dump_json() for m in messages)


def test_motion_follows_spm(trio: tuple[Path, list[Message]], shared: Path) -> None:
    """Both are about the scanner's origin; SPM's axes have other signs."""
    archive, _ = trio
    (path,) = archive.rglob("*_desc-confounds_timeseries.tsv")
    confounds = pd.read_csv(path, sep="\t")
    ours_T6 = confounds[MOTION].to_numpy()
    mat = scipy.io.loadmat(shared / "data" / "trio_run155" / "spm_motion.mat")
    (spm_T6,) = (value for name, value in mat.items() if not name.startswith("_"))
    assert spm_T6.shape == ours_T6.shape == (155, 6)

    for axis in range(3):
        ours, spm = ours_T6[:, 3 + axis], spm_T6[:, 3 + axis]
        r = np.corrcoef(ours, spm)[0, 1]
        worst_deg = np.rad2deg(np.abs((ours - ours[0]) - np.sign(r) * (spm - spm[0])).max())
        print(f"rotation {'xyz'[axis]}: r {r:+.3f}, largest difference {worst_deg:.3f} degrees")
        assert abs(r) >= 0.95
        assert worst_deg <= 0.1
    for axis in range(3):
        r = np.corrcoef(ours_T6[:, axis], spm_T6[:, axis])[0, 1]
        print(f"translation {'xyz'[axis]}: r {r:+.3f}")
        assert abs(r) >= 0.9


def test_both_rois_respond_to_the_blocks(trio: tuple[Path, list[Message]], shared: Path) -> None:
    """z of the block regressor (SPM's haemodynamic response, AR(1), motion) in the realigned series of the archive."""
    from nilearn.glm import compute_contrast
    from nilearn.glm.first_level import make_first_level_design_matrix, run_glm

    archive, _ = trio
    data = shared / "data" / "trio_run155"
    (path,) = archive.rglob("*_desc-preproc_bold.nii.gz")
    image = nib.load(path)
    series_XYZT = image.get_fdata(dtype=np.float32)
    (path,) = archive.rglob("*_desc-confounds_timeseries.tsv")
    motion_T6 = pd.read_csv(path, sep="\t")[MOTION].to_numpy()
    design = make_first_level_design_matrix(
        1.97 * np.arange(155), pd.read_csv(data / "events.tsv", sep="\t"), hrf_model="spm", high_pass=0.01,
        add_regs=motion_T6, add_reg_names=[f"motion{i}" for i in range(6)],
    )  # fmt: skip
    for name, least in (("lROI_1", 5.0), ("rROI_2", 3.5)):
        roi_XYZ = np.asarray(nib.load(data / f"{name}.nii").dataobj) > 0
        voxels_TV = series_XYZT[roi_XYZ].T
        mean_T1 = voxels_TV[:, voxels_TV.any(axis=0)].mean(axis=1)[:, None]
        labels, results = run_glm(mean_T1, design.to_numpy(), noise_model="ar1")
        contrast = (design.columns == "NFBREG").astype(float)
        z = compute_contrast(labels, results, contrast, stat_type="t").z_score().item()
        print(f"{name}: z {z:.2f} over {voxels_TV.shape[1]} voxels")
        assert z >= least


def test_the_same_command_again_changes_nothing(service: Service, shared: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((shared / "data" / "trio_run155" / "dcm").iterdir())[:5]:
        shutil.copy(path, few)
    session = service.open_session()
    first = service.mindsight("stream", few, "--session", session)
    assert first.returncode == 0, first.stderr
    again = service.mindsight("stream", few, "--session", session, "--run", "2")
    assert again.returncode == 0, again.stderr
    received = [(m.run, m.index) for m in service.messages(session) if isinstance(m, VolumeReceived)]
    assert received == [(run, index) for run in (1, 2) for index in range(5)]


def test_no_identity_gets_past_the_reader(service: Service, shared: Path, tmp_path: Path) -> None:
    """Over 60 identifiers in the files, their names and their folder are in no file, log, answer, metric or trace."""
    began_s = time.time()
    seed = "QZXJVKWQ"  # fewer bytes are sometimes a voxel's value: "SEED" is 789.08
    folder = tmp_path / f"20260101.{seed}.4711"
    folder.mkdir()
    for index, path in enumerate(sorted((shared / "data" / "trio_run155" / "dcm").iterdir())[:4]):
        dataset = seeded(path, "mosaic", seed)
        dataset.PatientBirthDate = "19790413"
        dataset.save_as(folder / f"{seed}_{index}.dcm")
    (one, *_) = folder.iterdir()
    assert one.read_bytes().count(seed.encode()) >= 60
    session = service.open_session()
    finished = service.mindsight("stream", folder, "--session", session)
    assert finished.returncode == 0, finished.stderr
    with service.console(session) as console:
        console.close_session()
    service.wait(session, is_archived, DEADLINE_S)

    def has(content: bytes) -> bool:
        return any(text.encode() in content for text in (seed, UID_SEED, "19790413"))

    assert not has((finished.stdout + finished.stderr).replace(str(folder), "").encode())
    with closing(Bus.from_settings(service.settings)) as bus:
        assert mentions(bus, has) == []
        assert mentions(bus, lambda content: session.encode() in content)
        traces = as_traced(bus, session)
    assert session.encode() in traces
    assert not has(traces)
    answers = dict(answered(service, session))
    assert len(answers) > 20
    assert {"/v1/metrics", f"/v1/sessions/{session}", f"/v1/sessions/{session}/export"} <= set(answers)
    assert [path for path, content in answers.items() if has(content)] == []
    kept = [path for path in service.settings.data_dir.rglob("*") if path.is_file()]
    assert len(kept) > 20
    for path in kept:
        assert not has(str(path).encode())
        if path.suffix == ".gz" and path.stat().st_mtime < began_s - 1.0:
            continue  # another session's archive, of before these files were there
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        except FileNotFoundError:
            continue  # another session's state, of which nothing is kept once it is archived
        assert not has(content), path.name


def as_traced(bus: Bus, session: str) -> bytes:
    """What OpenTelemetry would be sent about the session."""
    spans, logged = SessionSpans(session), entries(Journal(bus, session).messages)
    messages = [read_message(entry.payload, entry.seq, session) for entry in logged]
    found = [span for message in messages for span in spans.take(message)]
    assert len(found) > len(messages) > 4
    return encode_spans(readable(found, resource())).SerializeToString()


def answered(service: Service, session: str) -> Iterator[tuple[str, bytes]]:
    """What every route that is read answers about the session, its first run and volume; streams are left out."""
    given = {"session": session, "run": "1", "index": "0"}
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.key}"}, timeout=30.0) as client:
        described = client.get("/v1/openapi.json").json()
        for template, methods in described["paths"].items():
            names = re.findall(r"{(\w+)}", template)
            if "get" not in methods or template.endswith("/events") or not set(names) <= set(given):
                continue
            path = template.format_map(given)
            yield path, client.get(path).content


def one_line(finished: subprocess.CompletedProcess[str], *words: str) -> None:
    """A wrong command ends with one line that names the fault, and an exit code."""
    assert finished.returncode == 1, finished.stdout + finished.stderr
    lines = [line for line in finished.stderr.splitlines() if line.startswith("mindsight:")]
    assert len(lines) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    for word in words:
        assert word in lines[0]


def test_wrong_commands_print_one_line(
    service: Service,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first as a process; the others, which end the same way, in this one, since starting one takes a second."""

    def stream(*arguments: object, key: str | None = None) -> subprocess.CompletedProcess[str]:
        for name, value in service.environment(key).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["mindsight", "stream", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(sys.argv, ended.value.code, *capsys.readouterr())  # type: ignore[arg-type]

    dcm = shared / "data" / "trio_run155" / "dcm"
    session = service.open_session()
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(dcm.iterdir())[:4]:
        shutil.copy(path, few)
    one_line(service.mindsight("stream", few, "--session", "ses-unknown"), "session.unknown")
    one_line(stream(few, "--session", session, key="ms_00000000_" + "x" * 43), "auth.key")
    one_line(stream(few, "--session", session, key=""), "MINDSIGHT_KEY")
    one_line(stream(tmp_path / "nothing", "--session", session), "series")
    one_line(stream(few, "--session", session, "--task", "my task"), "cli.task")
    one_line(stream(few, "--session", session, "--to", "127.0.0.1:9"), "http://HOST:PORT")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        source = f"murfi://127.0.0.1:{taken.getsockname()[1]}"
        one_line(stream(source, "--session", session), "another port", "transport.address")
    one_line(stream(f"watch:{tmp_path}/nothing", "--session", session), "check the path")
    with monkeypatch.context() as impatient:
        impatient.setattr("mindsight.operations.stream.FIRST_ANSWER_S", 1.0)
        one_line(stream(few, "--session", session, "--to", "http://127.0.0.1:9"), "service.unavailable")
    events = tmp_path / "events.tsv"
    events.write_text("duration\ttrial_type\n3\tface\n")
    one_line(stream(few, "--session", session, "--events", events), "events.columns")
    broken = sorted(few.iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:60_000])
    finished = stream(few, "--session", service.open_session())
    assert finished.returncode == 3  # the stream went to its end, without something
    assert "skipped: file 3 of 4" in finished.stderr
    assert "3 volumes acknowledged, 1 missing" in finished.stdout


def test_nothing_acknowledged_is_lost_with_a_bus_that_is_down(service: Service, shared: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((shared / "data" / "trio_run155" / "dcm").iterdir())[:6]:
        shutil.copy(path, few)
    session = service.open_session()
    bus = service.supervisor.process("bus")
    os.kill(bus.pid, signal.SIGKILL)  # its server dies with it; the supervisor starts both again
    finished = service.mindsight("stream", few, "--session", session)
    assert finished.returncode == 0, finished.stderr
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        processed = [m.index for m in service.messages(session) if isinstance(m, VolumeProcessed)]
        if len(processed) == 6:
            break
        time.sleep(0.2)
    assert processed == list(range(6))


def test_the_archive_states_its_provenance(trio: tuple[Path, list[Message]]) -> None:
    archive, _ = trio
    provenance = json.loads((archive / "derivatives" / "mindsight" / "provenance.json").read_text())
    assert provenance["bundle"] is None
    assert provenance["mindsight"]
    (raw,) = (archive / "rawdata").rglob("*_bold.nii.gz")
    assert nib.load(raw).shape == (74, 74, 36, 155)

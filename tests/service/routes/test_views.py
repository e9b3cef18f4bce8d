"""Views of volumes, masks and betas: content-addressed, for viewers too; regions of interest, de-identified."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Bus
from mindsight.journal.read import Journal
from mindsight.protocol import BetaReady, SpaceKnown, dump_message
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume, encode_volume
from support.gateway_harness import Running
from support.rest import messages, problem, put

MASK = np.zeros((8, 8, 4), np.uint8)
MASK[2:6, 2:6, 1:3] = 1
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def nifti(data: np.ndarray, description: str = "") -> bytes:
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header["descrip"] = description
    content: bytes = image.to_bytes()
    return content


@pytest.fixture
def known(running: Running, bus: Bus, session: str) -> tuple[str, str]:
    """The session's space and one beta, as ingest publishes them: the digests of reference and mask."""
    blobs = BlobStore(running.settings.blobs_dir)
    reference = Volume(np.full(MASK.shape, 1000.0, np.float32), AFFINE, 2.0, 1, 0)
    digests = [blobs.put(encode_volume(Volume(data, AFFINE, 2.0, 1, 0))) for data in (reference.data, MASK)]
    beta = blobs.put(np.arange(MASK.sum(), dtype="<f4").tobytes())
    log = Journal(bus, session).messages
    common = {"session": session, "t": 1.0}
    space = SpaceKnown(**common, shape=MASK.shape, n_voxels=32, reference=digests[0], mask=digests[1])
    ready = BetaReady(
        **common, run=1, trial=1, stage="fast", n_volumes=9, n_voxels=32, flagged=False, beta=beta, n_run=1
    )
    log.append("space", dump_message(space))
    log.append("beta-1-1-fast", dump_message(ready))
    return digests[0], digests[1]


def test_a_viewer_sees_volume_mask_and_beta_and_has_each_once(
    running: Running, session: str, known: tuple[str, str], make_payload: Callable[..., bytes], admin: httpx.Client
) -> None:
    assert put(admin, session, 0, make_payload(0)).status_code == 200
    base = f"/v1/sessions/{session}/runs/1"
    addresses = {
        f"{base}/volumes/0/view": decode_volume(make_payload(0)).data.max(),
        f"/v1/views/{known[0]}": 1000,
        f"/v1/views/{known[1]}?kind=outline": 1,
        f"{base}/trials/1/beta?stage=fast": 3.1,
    }
    with running.client("viewer") as viewer:
        for address, most in addresses.items():
            found = viewer.get(address)
            assert found.status_code == 200, found.text
            assert found.headers["content-encoding"] == "gzip"
            assert "immutable" in found.headers["cache-control"]
            shown = nibabel.Nifti1Image.from_bytes(found.content).get_fdata()
            assert shown.shape == MASK.shape
            assert shown.max() == pytest.approx(most, rel=0.02)
            again = viewer.get(address, headers={"If-None-Match": found.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            plain = viewer.get(address, headers={"Accept-Encoding": "identity"})
            assert plain.content == found.content
            assert "content-encoding" not in plain.headers


def test_what_is_not_there_is_not_found(admin: httpx.Client, session: str, known: tuple[str, str]) -> None:
    base = f"/v1/sessions/{session}/runs/1"
    problem(admin.get(f"{base}/volumes/5/view"), 404, "volume.unknown")
    problem(admin.get(f"{base}/trials/1/beta?stage=final"), 404, "beta.unknown")
    problem(admin.get(f"/v1/views/{known[0]}?kind=outline"), 404, "view.unknown")
    problem(admin.get(f"/v1/views/{'0' * 64}"), 404, "blob.unknown")


def test_a_picture_is_no_volume(admin: httpx.Client, running: Running) -> None:
    digest = BlobStore(running.settings.blobs_dir).put(b"\x89PNG\r\n\x1a\n")
    problem(admin.get(f"/v1/views/{digest}"), 404, "view.unknown")


def test_a_region_is_kept_without_what_its_file_says(
    admin: httpx.Client, running: Running, bus: Bus, session: str
) -> None:
    content = gzip.compress(nifti(MASK * 7, "Jane Doe"))
    address = f"/v1/sessions/{session}/rois/left-hand?baseline=seconds&from_s=0&until_s=20"
    added = admin.put(address, content=content)
    assert added.status_code == 201, added.text
    assert (added.json()["n_voxels"], added.json()["duplicate"]) == (32, False)
    assert admin.put(address, content=content).json()["duplicate"]
    kept = BlobStore(running.settings.blobs_dir).get(added.json()["mask"])
    assert b"Jane" not in kept
    mask = decode_volume(kept)
    np.testing.assert_array_equal(mask.data, MASK)
    np.testing.assert_allclose(mask.affine, AFFINE)
    (listed,) = admin.get(f"/v1/sessions/{session}/rois").json()
    assert (listed["name"], listed["baseline"]["until_s"]) == ("left-hand", 20.0)
    assert any(key.startswith("roi-left-hand") for key in messages(bus, session))
    assert admin.get(f"/v1/views/{added.json()['mask']}?kind=outline").status_code == 200


@pytest.mark.parametrize(
    ("content", "query", "code"),
    [
        (b"no NIfTI", "", "roi.mask"),
        (nifti(np.zeros((4, 4, 4), np.uint8)), "", "roi.mask"),
        (nifti(np.ones((4, 4, 4), np.uint8)), "", "roi.mask"),
        (nifti(np.ones((4, 4, 4, 3), np.uint8)), "", "roi.mask"),
        (gzip.compress(nifti(np.zeros((300, 300, 100), np.uint8)), 1), "", "roi.mask"),
        (nifti(MASK), "?baseline=seconds", "roi.baseline"),
        (nifti(MASK), "?baseline=label", "roi.baseline"),
    ],
)
def test_what_is_no_mask_or_no_baseline_is_refused(
    admin: httpx.Client, session: str, content: bytes, query: str, code: str
) -> None:
    problem(admin.put(f"/v1/sessions/{session}/rois/left{query}", content=content), 422, code)
    assert admin.get(f"/v1/sessions/{session}/rois").json() == []


def test_of_a_region_s_declarations_the_last_one_stands(admin: httpx.Client, bus: Bus, session: str) -> None:
    """Also where it is what another one replaced. The same twice in a row is one."""
    address, contents = f"/v1/sessions/{session}/rois/left", (nifti(MASK), nifti(np.roll(MASK, 1, axis=0)))
    taken = [admin.put(address, content=contents[k]).json() for k in (0, 1, 0, 0, 1, 0)]
    assert [one["duplicate"] for one in taken] == [False, False, False, True, False, False]
    (listed,) = admin.get(f"/v1/sessions/{session}/rois").json()
    assert listed["mask"] == taken[0]["mask"] != taken[1]["mask"]
    told = [m.mask for m in Journal(bus, session).read_messages() if m.type == "roi.declared"]
    assert told == [taken[k]["mask"] for k in (0, 1, 0, 1, 0)]


def test_a_viewer_declares_no_region_and_is_not_told_what_a_baseline_shows(running: Running, session: str) -> None:
    address = f"/v1/sessions/{session}/rois"
    with running.client("experimenter") as experimenter:
        assert experimenter.put(f"{address}/left?baseline=label&label=faces", content=nifti(MASK)).status_code == 201
        assert experimenter.get(address).json()[0]["baseline"]["label"] == "faces"
    with running.client("viewer") as viewer:
        assert viewer.put(f"{address}/left", content=nifti(MASK)).status_code == 403
        (shown,) = viewer.get(address).json()
        assert (shown["baseline"]["kind"], shown["baseline"]["label"]) == ("label", None)
    with running.client("experimenter") as experimenter:
        blind = {"instruction": "blind", "change": "b1"}
        assert experimenter.post(f"/v1/sessions/{session}/instructions", json=blind).status_code == 201
        assert experimenter.get(address).json()[0]["baseline"]["label"] is None


def test_a_subject_s_regions_are_declared_with_its_sessions(admin: httpx.Client, running: Running) -> None:
    subject = admin.post("/v1/subjects").json()["subject"]
    own, address = f"/v1/subjects/{subject}/rois", "baseline=seconds&from_s=0&until_s=20"
    assert admin.put(f"{own}/left?{address}", content=nifti(MASK, "Jane Doe")).status_code == 201
    assert admin.put(f"{own}/right", content=nifti(MASK)).status_code == 201
    folder: Path = running.settings.data_dir / "rois" / subject
    assert not any(b"Jane" in path.read_bytes() for path in folder.iterdir())
    (folder / "torn.nii.gz").write_bytes(b"\x1f\x8b torn")  # put there by hand, as people do

    session = admin.post("/v1/sessions", json={"subject": subject}).json()["session"]
    declared = admin.get(f"/v1/sessions/{session}/rois").json()
    assert [(roi["name"], roi["baseline"]["kind"]) for roi in declared] == [("left", "seconds"), ("right", "rest")]
    log = list(Journal(Bus.from_settings(running.settings), session).read_messages())
    assert [m.code for m in log if m.type == "warning"] == ["roi.file"]

    assert admin.delete(f"{own}/left").status_code == 204
    problem(admin.delete(f"{own}/left"), 404, "roi.unknown")
    assert [roi["name"] for roi in admin.get(own).json()] == ["right", "torn"]
    problem(admin.get("/v1/subjects/sub-none/rois"), 404, "subject.unknown")


def test_a_voxel_s_fit_needs_an_open_session_and_a_worker(admin: httpx.Client, session: str) -> None:
    address = f"/v1/sessions/{session}/runs/1/voxel?x=1&y=2&z=3"
    assert admin.get(address).json()["code"] == "voxel.busy"  # no worker runs here
    admin.post(f"/v1/sessions/{session}/close")
    problem(admin.get(address), 404, "voxel.closed")

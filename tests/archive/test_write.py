from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from bids_validator import BIDSValidator
from PIL import Image

from mindsight.archive import ArchivedRun, ArchivedSession, bids_label, write_archive
from mindsight.archive.write import derivatives
from mindsight.archive.write.contact_sheet import Tile, TrialImages, contact_sheets
from mindsight.errors import BadRequest, BadVolume, Conflict, StorageFull
from mindsight.scanner import open_run
from mindsight.volume import Volume
from support.archive_example import AFFINE, MISSING, N_VOLUMES, PLACE, SHAPE, TR_S, make_session, picture, raw_volumes

STEM = "sub-S7f3a_ses-2026pilot"
FUNC = Path("sub-S7f3a/ses-2026pilot/func")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_archive(make_session(), tmp_path / "archive")
    return tmp_path / "archive"


@pytest.fixture
def derived(archive: Path) -> Path:
    return archive / "derivatives" / "mindsight"


def test_the_list_is_what_lies_there_and_nothing_else_does(tmp_path: Path) -> None:
    files = write_archive(make_session(), tmp_path / "archive")
    found = {path.relative_to(tmp_path / "archive") for path in tmp_path.rglob("*") if path.is_file()}
    assert set(files) == found
    assert len(files) == len(found) > 20
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_every_raw_name_passes_the_bids_validator(archive: Path) -> None:
    raw = archive / "rawdata"
    names = [f"/{path.relative_to(raw)}" for path in raw.rglob("*") if path.is_file()]
    assert len(names) >= 12
    assert [name for name in names if not BIDSValidator().is_bids(name)] == []


def test_every_derivative_name_is_made_of_entities_in_order(derived: Path) -> None:
    """The validator package has no rules for derivatives: entities and their order are those of BIDS 1.10."""
    pattern = re.compile(
        r"sub-[A-Za-z0-9]+_ses-[A-Za-z0-9]+(_task-[A-Za-z0-9]+)?(_run-[0-9]+)?(_trial-[0-9]+)?(_desc-[A-Za-z0-9]+)?"
        r"(_stat-[A-Za-z0-9]+)?(_from-session_to-reference_mode-image)?"
        r"_(timeseries|bold|statmap|mask|xfm|results|reconstruction|contactsheet-[0-9]+)"
        r"\.(tsv|txt|json|jsonl|nii\.gz|png)"
    )
    names = [
        path.name for path in (derived / "sub-S7f3a").rglob("*") if path.is_file() and path.parent.name != "retrieved"
    ]
    assert len(names) > 12
    assert [name for name in names if not pattern.fullmatch(name)] == []
    description = json.loads((derived / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "Mindsight"


def test_volumes_are_as_they_came_and_missing_ones_are_marked(archive: Path, derived: Path) -> None:
    for run in (1, 2):
        stem = f"{STEM}_task-scenes1_run-{run}"
        image = nib.load(archive / "rawdata" / FUNC / f"{stem}_bold.nii.gz")
        data_XYZT = np.asanyarray(image.dataobj)
        assert data_XYZT.dtype == np.uint16
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
        assert image.header.get_zooms()[3] == TR_S
        assert image.header.get_xyzt_units() == ("mm", "sec")
        for t, volume in enumerate(raw_volumes(run)):
            expected = np.zeros(SHAPE) if volume is None else volume.data
            np.testing.assert_array_equal(data_XYZT[..., t], expected)
        sidecar = json.loads((archive / "rawdata" / FUNC / f"{stem}_bold.json").read_text())
        assert sidecar["RepetitionTime"] == TR_S
        assert sidecar["TaskName"] == "scenes_1"
        assert sidecar["MissingVolumes"] == list(MISSING)
        assert len(sidecar["SliceTiming"]) == SHAPE[2]
        confounds = pd.read_csv(derived / FUNC / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", na_values="n/a")
        assert list(np.flatnonzero(confounds["missing_volume"])) == list(MISSING)


def test_our_own_reader_reads_it_back(archive: Path, tmp_path: Path) -> None:
    stem = archive / "rawdata" / FUNC / f"{STEM}_task-scenes1_run-2"
    run = tmp_path / "run"
    run.mkdir()
    (run / "bold.nii.gz").write_bytes(Path(f"{stem}_bold.nii.gz").read_bytes())
    (run / "events.tsv").write_bytes(Path(f"{stem}_events.tsv").read_bytes())
    recorded = open_run(run, run=2)
    assert (recorded.n_volumes, recorded.tr_s, recorded.shape) == (N_VOLUMES, TR_S, SHAPE)
    assert [event.label for event in recorded.events] == ["tree", None, "blank", "beach"]
    assert recorded.events[1].stim_file == "house/1.png"


def test_events_name_images_that_are_there(archive: Path) -> None:
    raw = archive / "rawdata"
    events = pd.read_csv(raw / FUNC / f"{STEM}_task-scenes1_run-1_events.tsv", sep="\t", na_values="n/a")
    assert list(events["onset"]) == [0, 4, 8, 12]
    assert events["trial"].isna().tolist() == [False, False, True, False]
    for row in events[events["stimulus"].notna()].itertuples():
        assert hashlib.sha256((raw / "stimuli" / row.stim_file).read_bytes()).hexdigest() == row.stimulus


def test_confounds_have_fmripreps_names_and_values(derived: Path) -> None:
    path = derived / FUNC / f"{STEM}_task-scenes1_run-1_desc-confounds_timeseries.tsv"
    confounds = pd.read_csv(path, sep="\t", na_values="n/a")
    rng = np.random.default_rng(101)
    motion_T6 = rng.normal(0, 0.1, (N_VOLUMES, 6))
    columns = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    present = [t for t in range(N_VOLUMES) if t not in MISSING]
    np.testing.assert_allclose(confounds[columns].to_numpy()[present], motion_T6[present], rtol=1e-8)
    assert confounds[columns].iloc[list(MISSING)].isna().all(axis=None)
    assert np.isnan(confounds["framewise_displacement"][0])
    outliers = [name for name in confounds if name.startswith("motion_outlier")]
    assert outliers == ["motion_outlier00", "motion_outlier01"]
    assert [int(confounds[name].argmax()) for name in outliers] == [3, 11]
    assert (confounds[outliers].sum() == 1).all()
    described = json.loads(path.with_suffix(".json").read_text())
    assert {re.sub(r"\d\d$", "", name) for name in confounds} <= set(described)


def test_nilearn_reads_the_motion_as_fmripreps(derived: Path) -> None:
    from nilearn.interfaces.fmriprep import load_confounds

    stem = f"{STEM}_task-scenes1_run-2"
    image = derived / FUNC / f"{stem}_space-T1w_desc-preproc_bold.nii.gz"
    image.write_bytes(b"")  # load_confounds goes by the name of an image that stands beside the table
    loaded, _ = load_confounds(str(image), strategy=("motion",), motion="basic", demean=False)
    table = pd.read_csv(derived / FUNC / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", na_values="n/a")
    np.testing.assert_array_equal(loaded["rot_x"].iloc[1:7], table["rot_x"].iloc[1:7])
    assert sorted(loaded) == ["rot_x", "rot_y", "rot_z", "trans_x", "trans_y", "trans_z"]


def test_the_realigned_series_lies_beside_the_betas(derived: Path) -> None:
    (path,) = derived.rglob("*run-1_desc-preproc_bold.nii.gz")
    image = nib.load(path)
    (mask,) = derived.rglob("*desc-decoder_mask.nii.gz")
    inside_XYZ = nib.load(mask).get_fdata() > 0
    data = image.get_fdata()
    assert image.header.get_zooms()[3] == pytest.approx(TR_S)
    assert data.shape == (*SHAPE, N_VOLUMES)
    assert data[inside_XYZ].mean() == pytest.approx(1000, abs=5)
    assert not data[~inside_XYZ].any()


def test_betas_are_maps_by_trial_and_stage(derived: Path) -> None:
    mask_XYZ = np.asanyarray(nib.load(derived / FUNC / f"{STEM}_desc-decoder_mask.nii.gz").dataobj).astype(bool)
    assert mask_XYZ.sum() == 63
    for stage, trials in (("fast", [1, 3]), ("final", [1, 2, 3])):
        stem = derived / FUNC / f"{STEM}_task-scenes1_run-2_desc-{stage}_stat-effect_statmap"
        image = nib.load(f"{stem}.nii.gz")
        table = pd.read_csv(f"{stem}.tsv", sep="\t", na_values="n/a")
        assert list(table["trial"]) == trials
        assert image.shape == (*SHAPE, len(trials))
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
        for volume, trial in enumerate(trials):
            map_XYZ = np.asanyarray(image.dataobj)[..., volume]
            assert (map_XYZ[mask_XYZ] == 200 + trial).all()
            assert (map_XYZ[~mask_XYZ] == 0).all()
    assert not list(derived.rglob("*desc-revised*"))


def test_a_beta_goes_to_its_voxel(tmp_path: Path) -> None:
    session = make_session()
    (first, *_) = session.runs
    beta_V = np.arange(63, dtype=np.float32)
    run = dataclasses.replace(first, betas={(1, "final"): beta_V})
    write_archive(dataclasses.replace(session, runs=[run]), tmp_path / "a")
    (path,) = (tmp_path / "a").rglob("*stat-effect_statmap.nii.gz")
    map_XYZ = np.asanyarray(nib.load(path).dataobj)[..., 0]
    assert session.mask_XYZ is not None
    np.testing.assert_array_equal(map_XYZ[session.mask_XYZ], beta_V)


def test_each_runs_registration_is_a_transform_figures_and_an_image(derived: Path) -> None:
    stem = derived / FUNC / f"{STEM}_task-scenes1_run-2_from-session_to-reference_mode-image_xfm"
    np.testing.assert_array_equal(np.loadtxt(f"{stem}.txt"), PLACE)
    assert json.loads(Path(f"{stem}.json").read_text())["how"] == "registered"
    figure = derived / "sub-S7f3a" / "figures" / f"{STEM}_task-scenes1_run-2_desc-placement_bold.png"
    assert figure.read_bytes() == picture(2)


def test_results_are_whole_as_lines_and_flat_as_a_table(derived: Path) -> None:
    stem = derived / FUNC / f"{STEM}_desc-decoding_results"
    lines = [json.loads(line) for line in Path(f"{stem}.jsonl").read_text().splitlines()]
    table = pd.read_csv(f"{stem}.tsv", sep="\t", na_values="n/a")
    assert len(lines) == len(table) == 8
    assert lines[0]["candidates"] == [{"id": "a", "score": 0.5}]
    assert json.loads(table["candidates"][0]) == lines[0]["candidates"]
    assert list(table["confidence"]) == [line["confidence"] for line in lines]
    assert list(table.columns[:3]) == ["run", "trial", "stage"]
    finals = table[table["stage"] == "final"]
    assert list(finals["token_cosine"]) == [0.8] * 4
    assert list(finals["fit_percentile"].fillna(-1.0)) == [97.5, -1.0] * 2
    assert table[table["stage"] == "fast"][["token_cosine", "fit_percentile"]].isna().all(axis=None)


def test_images_and_the_contact_sheet_open(derived: Path) -> None:
    folder = derived / "sub-S7f3a" / "ses-2026pilot" / "images"
    assert len(list(folder.glob("*_reconstruction.png"))) == 4
    assert len(list((folder / "retrieved").iterdir())) == 1
    (sheet,) = folder.glob("*_contactsheet-01.png")
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB"))
        reconstruction = Image.open(folder / f"{STEM}_run-1_trial-1_desc-final_reconstruction.png")
        thumbnail = np.asarray(reconstruction.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS))
    windows = [
        (x, y)
        for y in range(0, pixels.shape[0] - 127)
        for x in range(0, pixels.shape[1] - 127)
        if (pixels[y, x] == thumbnail[0, 0]).all() and np.array_equal(pixels[y : y + 128, x : x + 128], thumbnail)
    ]
    assert len(windows) == 4  # one for each trial


def test_a_line_that_is_too_long_for_its_image_is_cut() -> None:
    def sheet(label: str) -> bytes:
        tile = Tile(picture(1), (label,))
        (made,) = contact_sheets([TrialImages(Tile(None), Tile(None), tile)])
        return made

    long = "a dog that lies on a lawn in the sun"
    assert sheet(long) == sheet(long + " with another dog")
    assert sheet("a dog") != sheet("a cat")


def test_the_same_session_gives_the_same_bytes(tmp_path: Path) -> None:
    def content(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }

    for name in ("a", "b"):
        write_archive(make_session(), tmp_path / name)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_no_image_no_mask_no_result_is_an_archive_too(tmp_path: Path) -> None:
    (run, _) = make_session().runs
    bare = dataclasses.replace(run, events=[], betas={}, series_TV=None, motion_T6=np.full((N_VOLUMES, 6), np.nan))
    session = ArchivedSession(subject="x", session="1", runs=[bare])
    files = write_archive(session, tmp_path / "a")
    assert not [path for path in files if path.suffix == ".png" or "statmap" in path.name or "mask" in path.name]
    (results,) = (tmp_path / "a").rglob("*_results.tsv")
    assert len(pd.read_csv(results, sep="\t")) == 0


def test_an_image_that_is_gone_or_broken_costs_only_itself(tmp_path: Path) -> None:
    session = make_session()
    keep = list(session.images)
    images = {keep[0]: b"\x89PNG no image", keep[3]: session.images[keep[3]]}
    files = write_archive(dataclasses.replace(session, images=images), tmp_path / "a")
    assert [path for path in files if "contactsheet" in path.name]
    assert not [path for path in files if "reconstruction" in path.name]


def with_run(session: ArchivedSession, **changes: object) -> ArchivedSession:
    (run, _) = session.runs
    return dataclasses.replace(session, runs=[dataclasses.replace(run, **changes)])


def other_shape() -> Iterator[Volume | None]:
    volumes = raw_volumes(1)
    volumes[9] = Volume(np.zeros((8, 9, 7), np.uint16), AFFINE, TR_S, 1, 9)
    return iter(volumes)


@pytest.mark.parametrize(
    ("changes", "error", "code"),
    [
        ({"n_volumes": 19}, BadRequest, "archive.volumes"),
        ({"volumes": raw_volumes(1)[:-1]}, BadRequest, "archive.volumes"),
        ({"volumes": [None] * N_VOLUMES}, BadRequest, "archive.empty_run"),
        ({"volumes": []}, BadRequest, "archive.empty_run"),
        ({"volumes": other_shape()}, BadVolume, "volume.shape_mismatch"),
        ({"motion_T6": np.zeros((N_VOLUMES, 5))}, BadRequest, "archive.shape"),
        ({"censored_T": np.zeros(3, bool)}, BadRequest, "archive.shape"),
        ({"betas": {(1, "fast"): np.zeros(62, np.float32)}}, BadRequest, "archive.shape"),
        ({"task": "__"}, BadRequest, "archive.label"),
    ],
)
def test_a_session_that_contradicts_itself_leaves_nothing(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], code: str
) -> None:
    with pytest.raises(error) as caught:
        write_archive(with_run(make_session(), **changes), tmp_path / "a")
    assert getattr(caught.value, "code", None) == code
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_there_is_not_touched(archive: Path) -> None:
    with pytest.raises(Conflict):
        write_archive(make_session(), archive)
    assert (archive / "rawdata").is_dir()


def test_what_an_interrupted_attempt_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".a.partial" / "rawdata").mkdir(parents=True)
    (tmp_path / ".a.partial" / "half").write_text("")
    assert Path("half") not in write_archive(make_session(), tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_reports_it_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(derivatives, "write_results", full)
    with pytest.raises(StorageFull) as caught:
        write_archive(make_session(), tmp_path / "a")
    assert str(tmp_path) not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_memory_holds_one_volume_at_a_time(tmp_path: Path) -> None:
    alive = 0
    most = 0

    class Counted:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    class Tracked(np.ndarray):  # type: ignore[type-arg]
        counted: Counted

    def volumes() -> Iterator[Volume]:
        for t in range(N_VOLUMES):
            data = np.zeros(SHAPE, np.int16).view(Tracked)
            data.counted = Counted()
            volume = Volume(data, AFFINE, TR_S, 1, t)
            object.__setattr__(volume, "data", data)
            yield volume
            del data, volume

    write_archive(with_run(make_session(), volumes=volumes()), tmp_path / "a")
    assert alive == 0
    assert most <= 3  # the first (for the header), the present one, the next


def test_a_label_is_letters_and_digits() -> None:
    assert bids_label("S-7f_3a!") == "S7f3a"
    with pytest.raises(BadRequest):
        bids_label("--")


def test_a_real_run_goes_through_unchanged(shared: Path, tmp_path: Path) -> None:
    recorded = open_run(shared / "data" / "siemens_vd13_mosaic_order" / "ep2d_Asc_HF_10")
    n = recorded.n_volumes
    run = ArchivedRun(
        run=1,
        task="rest",
        tr_s=recorded.tr_s,
        n_volumes=n,
        volumes=recorded.volumes(),
        events=[],
        motion_T6=np.full((n, 6), np.nan),
        fd_mm_T=np.full(n, np.nan),
        dvars_percent_T=np.full(n, np.nan),
        censored_T=np.zeros(n, dtype=bool),
    )
    write_archive(ArchivedSession(subject="a", session="b", runs=[run]), tmp_path / "a")
    (path,) = (tmp_path / "a" / "rawdata").rglob("*_bold.nii.gz")
    truth = nib.load(shared / "data" / "siemens_vd13_mosaic_order" / "10_ep2d_Asc_HF.nii")
    image = nib.load(path)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), np.asanyarray(truth.dataobj))
    np.testing.assert_allclose(image.affine, truth.affine, atol=1e-4)
    assert io.BytesIO(path.read_bytes()).read(8)[4:8] == bytes(4)  # no time in the gzip header

"""A bundle around weights that are there already: the demo's, with runs that they have not seen."""

from __future__ import annotations

import math
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mindsight import assets
from mindsight.decoders.mindeye2.decoder import MindEye2Weights
from mindsight.encoders.demo import DemoEncoder
from mindsight.operations.replay import replay
from mindsight.retrieval import ReducedIndex
from mindsight.simulator.demo import N_POOL, demo_visit
from mindsight.simulator.experiment import Design
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.command import main


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recorded runs, the mask of the demo's voxels, its weights, and its pool."""
    folder = tmp_path_factory.mktemp("lab")
    encoder, bundle = DemoEncoder.load(assets.ENCODER), Bundle.load(assets.BUNDLE)
    visit = demo_visit(encoder.encode, encoder.image_size, seed=5, n_runs=3, design=Design(trials_per_run=18))
    for plan in visit.plans:
        run = folder / f"run-{plan.run}"
        run.mkdir()
        volumes = list(visit.volumes(plan))
        image = nib.Nifti1Image(np.stack([volume.data for volume in volumes], axis=-1), volumes[0].affine)
        image.header.set_zooms((*image.header.get_zooms()[:3], plan.tr_s))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, run / "bold.nii.gz")
        rows = [f"{e.onset_s}\t{e.duration_s}\tstimuli/scene-{e.candidate:03d}.png" for e in plan.shown]
        (run / "events.tsv").write_text("\n".join(["onset\tduration\tstim_file", *rows]) + "\n")
    mask = bundle.space.mask_XYZ.astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, bundle.space.reference.affine), folder / "mask.nii.gz")
    bundle.pool.save(folder / "pool")
    assert isinstance(bundle.decoder, MindEye2Weights)
    (folder / "weights.safetensors").write_bytes(bundle.decoder.path.read_bytes())
    return folder


def calibrated(
    lab: Path, out: Path, *more: str, weights: str = "weights.safetensors", n_reconstructions: int = 0
) -> int:
    given = {"--weights": weights, "--mask": "mask.nii.gz", "--pool": "pool"}
    options = [word for name, file in given.items() for word in (name, str(lab / file))]
    options += ["--reconstructions", str(n_reconstructions)]
    runs = [str(lab / f"run-{number}") for number in (1, 2)]
    return main([*runs, "--decoder", "mindeye2", "--labels", "stim_file", *options, "--out", str(out), *more])


@pytest.mark.slow
def test_runs_give_the_weights_a_space_and_a_confidence(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrated(lab, tmp_path / "bundle", "--in-pool-prior", "0.25", n_reconstructions=4) == 0
    bundle, shipped = Bundle.load(tmp_path / "bundle"), Bundle.load(assets.BUNDLE)
    assert (bundle.kind, bundle.labels, bundle.pool.digest) == ("mindeye2", "stim_file", shipped.pool.digest)
    assert bundle.accuracy is not None
    assert f"{bundle.accuracy} (held out only if the weights never saw these runs)" in capsys.readouterr().out
    assert bundle.accuracy.chance == pytest.approx(1 / N_POOL)
    assert bundle.accuracy.interval[0] > 0.3
    assert bundle.calibration.null_confidence < 0.5
    assert bundle.sampling.in_pool_prior == 0.25
    assert bundle.fit is not None
    assert {others.n for others in bundle.fit.stages.values()} == {4}
    assert bundle.errors is not None
    n_trials = {stage: errors.of_image.n for stage, errors in bundle.errors.stages.items()}
    assert n_trials["fast"] == n_trials["final"] == bundle.accuracy.n
    assert 0 < n_trials["revised"] <= bundle.accuracy.n
    found = replay(
        lab / "run-3", tmp_path / "bundle", speed=math.inf, results=None, clock=time.perf_counter, sleep=time.sleep
    )
    assert found.accuracy["final"].interval[0] > 0.3


@pytest.mark.slow
def test_one_of_several_subjects_layers_is_taken_and_a_large_pools_index(lab: Path, tmp_path: Path) -> None:
    state = load_file(lab / "weights.safetensors")
    other = {"ridge.linears.0.weight": torch.randn(state["ridge.linears.0.weight"].shape[0], 77).half()}
    other |= {"ridge.linears.0.bias": torch.zeros_like(state["ridge.linears.0.bias"])}
    own = {key.replace("linears.0", "linears.1"): state[key] for key in other}
    save_file(state | other | own, lab / "two.safetensors")
    ReducedIndex.build(Bundle.load(assets.BUNDLE).pool, np.random.default_rng(0), 64).save(
        lab / "pool" / "index.safetensors"
    )
    try:
        assert calibrated(lab, tmp_path / "wrong", weights="two.safetensors") == 1
        assert calibrated(lab, tmp_path / "bundle", "--layer", "1", weights="two.safetensors") == 0
    finally:
        (lab / "pool" / "index.safetensors").unlink()
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.index is not None
    assert isinstance(bundle.decoder, MindEye2Weights)
    kept = load_file(bundle.decoder.path)
    assert not any(key.startswith("ridge.linears.1") for key in kept)
    assert torch.equal(kept["ridge.linears.0.weight"], state["ridge.linears.0.weight"].float())


@pytest.mark.slow
def test_what_does_not_fit_is_one_line(lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*more: str, weights: str = "weights.safetensors") -> str:
        assert calibrated(lab, tmp_path / "no", *more, weights=weights) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "layers for" in printed("--layer", "1")
    assert "layers for" in printed("--layer=-1")
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "other.nii.gz")
    assert "resample" in printed("--mask", str(tmp_path / "other.nii.gz"))
    (lab / "last.pth").write_bytes(b"")
    assert "mindsight convert mindeye2 last.pth" in printed(weights="last.pth")
    arguments = [str(lab / "run-1"), str(lab / "run-2"), "--decoder", "mindeye2", "--out", str(tmp_path / "no")]
    assert main(arguments) == 1
    assert "--mask and --pool" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(lab / "run-1"), "--mask", "mask.nii.gz", "--out", str(tmp_path / "no")])

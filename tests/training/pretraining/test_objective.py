"""The losses of a part: those of the recorded reference, put together as the paper does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mindsight.decoders.mindeye2 import MindEye2, losses
from support.tolerance import network
from support.trials import images_of, material_of, small_config, small_data
from training.pretraining.command import make_model
from training.pretraining.objective import Draws, Mixing, draw_mixing, mixed_latent, part_losses
from training.pretraining.targets import Lowlevel

CLOSE = network(terms=208, sums=8)


@pytest.fixture(scope="session")
def lowlevel(tmp_path_factory: pytest.TempPathFactory) -> Lowlevel:
    """Targets of the low-level head for the small images, two augmentations each."""
    path, rng, ids = tmp_path_factory.mktemp("lowlevel") / "targets.h5", np.random.default_rng(8), images_of(150).ids
    with h5py.File(path, "w") as file:
        file["ids"] = [name.encode() for name in ids]
        file["latents"] = rng.standard_normal((len(ids), 4, 28, 28), np.float32)
        file["teacher"] = rng.standard_normal((len(ids), 49, 512), np.float32)
        file["augmented"] = rng.standard_normal((len(ids), 2, 49, 512), np.float32)
    return Lowlevel.open(path)


def test_mixer_blocks_in_short_are_the_whole_blocks(model: MindEye2, reference: dict[str, Any]) -> None:
    """In evaluation; in training both draw dropout, at the same place of the same layer."""
    latent = reference["ridge0"][:, 0]
    assert_close(mixed_latent(model, latent), model.backbone.mix(latent), **CLOSE)


def test_dropout_of_the_short_form_has_the_distribution_of_the_whole(model: MindEye2) -> None:
    latent = torch.zeros(4000, model.layout.hidden)
    model.train()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            whole, short = model.backbone.mix(latent), mixed_latent(model, latent)
    finally:
        model.eval()
    # means and deviations of as many draws, within five standard errors
    error = 5 * float(whole.std()) / whole.numel() ** 0.5
    assert float((whole.mean() - short.mean()).abs()) < 2 * error
    assert float(short.std()) == pytest.approx(float(whole.std()), rel=0.05)


@pytest.mark.parametrize("mixed", [True, False])
def test_the_sum_is_that_of_the_reference_losses(lowlevel: Lowlevel, mixed: bool) -> None:
    """Each term again, from the parts of the model and the functions that match the recorded losses."""
    data = small_data(lowlevel=lowlevel)
    config = small_config(lowlevel="targets.h5")
    model = make_model(config, data).eval()
    part = material_of(config, data).batches.part(1)
    draws = Draws.of(part, 0, mixed, "cpu")
    found = part_losses(model, part, draws, 0.005, torch.float32)

    voxels = list(part.betas)
    target = part.lowlevel
    assert target is not None
    blur = target.latent_B4HW
    if draws.mixing is not None:
        perm, share = draws.mixing
        halves = [slice(0, 6), slice(6, 12)]
        voxels = [losses.mix(v, perm[h] - h.start, share[h]) for v, h in zip(voxels, halves, strict=True)]
        blur = losses.mix(blur, perm, share)
    latent = torch.cat([model.ridge(v, i) for i, v in enumerate(voxels)])
    tokens = model.tokens_of(latent)
    rows, sought = losses.unit_rows(tokens.retrieval), losses.unit_rows(part.tokens_BND)
    expected = {
        "contrast": losses.soft_clip(rows, sought, 0.005)
        if draws.mixing is None
        else losses.bimixco(rows, sought, 0.006, perm, share),
        "prior": model.prior.loss(
            part.tokens_BND, tokens.backbone, draws.t_B, draws.noise_BND, draws.keep_brain_B, draws.keep_image_B
        ),
        "blur": (tokens.lowlevel - blur).abs().mean(),
    }
    student = model.backbone.lowlevel_aux(model.backbone.mix(latent)).flatten(0, 1)
    unit = [torch.nn.functional.normalize(each.flatten(0, 1)) for each in target[1:]]
    expected["maps"] = losses.soft_cont(torch.nn.functional.normalize(student), *unit, 0.2)
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    total = 30 * expected["prior"] + expected["contrast"] + 0.5 * (expected["blur"] + 0.1 * expected["maps"])
    assert_close(found["loss"], total, rtol=1e-4, atol=1e-6)


def test_partners_are_of_one_subject_and_a_trial_alone_keeps_itself() -> None:
    rng, alone = np.random.default_rng(0), 0
    for _ in range(200):
        perm, share = draw_mixing([5, 3, 1], rng)
        group = torch.tensor([0] * 5 + [1] * 3 + [2])
        assert torch.equal(group[perm], group)
        own = perm == torch.arange(9)
        alone += int(own[:8].sum())
        rows = torch.randn(9, 4)
        assert torch.equal(losses.mix(rows, perm, share)[own], rows[own])
        target = torch.diag(share).index_put((torch.arange(9), perm), 1 - share)
        assert_close(target.sum(1), torch.ones(9))
        assert torch.equal(target.diagonal()[own], torch.ones(int(own.sum())))
    assert alone > 100  # one of five and one of three a draw


def test_mixing_latents_is_mixing_betas() -> None:
    data, config = small_data(), small_config()
    model = make_model(config, data)
    betas = material_of(config, data).batches.part(0).betas[0]
    mixing = draw_mixing([len(betas)], np.random.default_rng(1))
    before, after = losses.mix(betas, *mixing), losses.mix(model.ridge(betas, 0), *mixing)
    assert_close(model.ridge(before, 0), after, rtol=1e-4, atol=1e-5)


def test_no_gradient_reaches_the_dead_blocks_and_all_others_have_one(lowlevel: Lowlevel) -> None:
    data, config = small_data(lowlevel=lowlevel), small_config(lowlevel="targets.h5")
    model = make_model(config, data).train()
    part = material_of(config, data).batches.part(0)
    part_losses(model, part, Draws.of(part, 0, True, "cpu"), 0.005, torch.float32)["loss"].backward()
    without = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert {name.split(".")[1] for name in without if name.startswith("backbone.")} == {"mixer_blocks1"}
    assert {name for name in without if not name.startswith("backbone.")} <= {
        "diffusion_prior.net.null_brain_embeds", "diffusion_prior.net.null_image_embed",
    }  # fmt: skip


def test_losses_are_finite_and_float32_in_bfloat16() -> None:
    data, config = small_data(), small_config()
    model = make_model(config, data).train()
    part = material_of(config, data).batches.part(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = part_losses(model.eval(), part, Draws.of(part, 0, True, "cpu"), 0.004, torch.float32)
        half = part_losses(model.eval(), part, Draws.of(part, 0, True, "cpu"), 0.004, torch.bfloat16)
    for name, value in half.items():
        assert value.dtype == torch.float32
        # temperatures of 0.006 multiply what rounding does to a cosine by 160
        beside = 0.5 if name in ("contrast", "loss") else 0.0
        assert value.item() == pytest.approx(whole[name].item(), rel=0.1, abs=beside)
    for betas in part.betas:
        betas.mul_(1e4)  # beyond what float16 holds once squared
    large = part_losses(model, part, Draws.of(part, 0, False, "cpu"), 0.004, torch.bfloat16)
    assert all(bool(torch.isfinite(value)) for value in large.values())


def test_draws_follow_from_seed_and_part() -> None:
    part = material_of(small_config(), small_data()).batches.part(5)
    first, again, other = (Draws.of(part, seed, True, "cpu") for seed in (1, 1, 2))

    def flat(draws: Draws) -> list[Tensor]:
        mixing = draws.mixing
        assert isinstance(mixing, Mixing)
        return [*mixing, draws.t_B, draws.noise_BND, draws.keep_brain_B, draws.keep_image_B]

    assert all(torch.equal(a, b) for a, b in zip(flat(first), flat(again), strict=True))
    assert not torch.equal(first.noise_BND, other.noise_BND)


def test_targets_of_another_shape_are_refused(tmp_path: Path) -> None:
    from mindsight.errors import ModelMismatch

    (tmp_path / "none.h5").write_bytes(b"nothing")
    with pytest.raises(ModelMismatch, match="expected an HDF5 file with ids"):
        Lowlevel.open(tmp_path / "none.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["ids"] = [b"a"]
        for name, shape in (("latents", (1, 4, 14, 14)), ("teacher", (1, 49, 512)), ("augmented", (1, 1, 49, 512))):
            file[name] = np.zeros(shape)
    with pytest.raises(ModelMismatch, match="expected latents") as raised:
        Lowlevel.open(tmp_path / "other.h5")
    assert raised.value.code == "targets.lowlevel"

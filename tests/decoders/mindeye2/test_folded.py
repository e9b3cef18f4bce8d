"""The inference form: the full form's tokens from fewer weights, at every size, in every precision, for repeats."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mindsight import assets
from mindsight.decoders.mindeye2 import FoldedMindEye2, MindEye2, fold, load_mindeye2
from mindsight.decoders.mindeye2.affine import affine
from mindsight.errors import ModelMismatch
from mindsight.weights.device import Placement
from support.listing import at_an_eighth, random_state, released
from support.tolerance import half_precision, network, rounding

CLOSE = network(terms=208, sums=8)  # the fixture: at most 208 terms, two layers of attention and feed-forward
CLOSE_AT_AN_EIGHTH = network(terms=1965, sums=8)


def numbers(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


@pytest.fixture(scope="module")
def eighth(shared: Path) -> MindEye2:
    """1,965 voxels, latent 512: more voxels than latent, as in every released file."""
    return load_mindeye2(random_state(at_an_eighth(released(shared, "A")))).requires_grad_(False)


@pytest.mark.parametrize("subject", [0, 1])
def test_equal_to_the_full_form(model: MindEye2, reference: dict[str, Any], subject: int) -> None:
    """The fixture has fewer voxels (37 and 29) than latent (48), so voxels to tokens is one layer."""
    voxels, folded = reference[f"voxels{subject}"][:, 0], fold(model, subject)
    for ours, full in zip(folded.tokens(voxels), model.tokens(voxels, subject), strict=True):
        assert_close(ours, full, **CLOSE)
    assert folded.trunk.layout.hidden == voxels.shape[1]
    if subject == 0:
        assert_close(folded.tokens(voxels).backbone, reference["backbone"], **CLOSE)
        assert_close(folded.tokens(voxels).retrieval, reference["clip_proj"], **CLOSE)
        assert_close(folded.tokens(voxels).lowlevel, reference["blur_latent"], **CLOSE)


def test_equal_to_the_full_form_through_the_latent(eighth: MindEye2) -> None:
    voxels, folded = torch.randn(2, 1965, generator=torch.Generator().manual_seed(1)), fold(eighth)
    assert folded.trunk.layout.hidden == 512
    for ours, full in zip(folded.tokens(voxels), eighth.tokens(voxels), strict=True):
        assert_close(ours, full, **CLOSE_AT_AN_EIGHTH)


def test_dead_weights_are_dropped_and_live_ones_shared(eighth: MindEye2) -> None:
    folded = fold(eighth)
    dead = [p for n, p in eighth.backbone.named_parameters() if n.startswith(("mixer_blocks", "b_maps_projector"))]
    ridge_and_trunk = [*eighth.ridge.parameters(), *eighth.backbone.parameters()]
    assert numbers(folded.tensors()) + numbers(dead) == numbers(ridge_and_trunk)
    addresses = {tensor.data_ptr() for tensor in ridge_and_trunk}
    copied = [tensor for tensor in folded.tensors() if tensor.data_ptr() not in addresses]
    assert [tuple(tensor.shape) for tensor in copied] == [(512,)]


def test_composing_reads_fewer_weights(model: MindEye2) -> None:
    through = numbers([p for n, p in model.backbone.named_parameters() if n.startswith(("backbone_linear", "blin1"))])
    for subject, voxels in enumerate(model.layout.voxels):
        trunk = fold(model, subject).trunk
        composed = numbers([*trunk.backbone_linear.parameters(), *trunk.blin1.parameters()])
        assert composed < through + 48 * voxels


def test_without_the_lowlevel_head(eighth: MindEye2) -> None:
    voxels, folded = torch.randn(1, 1965), fold(eighth)
    backbone, retrieval, lowlevel = folded.tokens(voxels, lowlevel=False)
    assert lowlevel is None
    assert torch.equal(backbone, folded.tokens(voxels).backbone)
    assert torch.equal(retrieval, folded.tokens(voxels).retrieval)


def test_repeats_are_averaged_behind_every_head(model: MindEye2, reference: dict[str, Any]) -> None:
    """The fixture's three rows as three repeats: the mean of what was recorded for each."""
    voxels, folded = reference["voxels0"][:, 0], fold(model)
    backbone, retrieval, lowlevel = folded.tokens_of_repeats(voxels)
    assert_close(backbone, reference["backbone"].mean(0, keepdim=True), **CLOSE)
    assert_close(retrieval, reference["clip_proj"].mean(0, keepdim=True), **CLOSE)
    assert_close(lowlevel, reference["blur_latent"].mean(0, keepdim=True), **CLOSE)
    of_mean_beta = folded.tokens(voxels.mean(0, keepdim=True))
    # backbone is affine, so the mean beta gives its mean; the other heads are not
    assert_close(of_mean_beta.backbone, backbone, **CLOSE)
    assert (of_mean_beta.retrieval - retrieval).abs().max() > 1e-2
    assert (of_mean_beta.lowlevel - lowlevel).abs().max() > 1e-2


def test_a_revised_beta_leaves_no_trace(model: MindEye2, reference: dict[str, Any]) -> None:
    voxels, folded = reference["voxels0"][:, 0], fold(model)
    first = folded.tokens_of_repeats(voxels[:2])
    revised = torch.stack((voxels[2], voxels[1]))
    assert not torch.allclose(folded.tokens_of_repeats(revised).retrieval, first.retrieval)
    again = folded.tokens_of_repeats(voxels[:2])
    assert torch.equal(again.retrieval, first.retrieval)
    one = folded.tokens_of_repeats(voxels[:1])
    assert_close(one.retrieval, folded.tokens(voxels[:1]).retrieval, **CLOSE)


@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize(("outputs", "inputs"), [(7, 5), (3001, 1700)])
def test_a_layer_for_few_rows(rows: int, outputs: int, inputs: int) -> None:
    """One thread and several, few rows and too many: the product in float64."""
    rng = torch.Generator().manual_seed(rows)
    x, weight, bias = (torch.randn(shape, generator=rng) for shape in ((rows, inputs), (outputs, inputs), (outputs,)))
    expected = x.double() @ weight.double().T + bias.double()
    close = rounding(inputs) * float((x.abs() @ weight.abs().T).max())
    threads = torch.get_num_threads()
    for n in (1, 3):
        torch.set_num_threads(n)
        assert_close(affine(x, weight, bias).double(), expected, atol=close, rtol=0)
        assert_close(affine(x, weight.T.contiguous().T, bias).double(), expected, atol=close, rtol=0)
    torch.set_num_threads(threads)


def test_betas_of_another_mask_are_refused(model: MindEye2, eighth: MindEye2) -> None:
    """The loop over weights does not look where a row of betas ends."""
    for held in (model, eighth):
        folded, voxels = fold(held), held.layout.voxels[0]
        for n in (voxels - 1, voxels + 1):
            with pytest.raises(ModelMismatch, match=f"{voxels} voxels") as raised:
                folded.tokens(torch.zeros(1, n))
            assert raised.value.code == "decoder.voxel_count"


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())


# Measured over the kernels of `make test-portable`, rounded up:
# relative error of backbone and retrieval tokens, low-level latent, against float32
HALF = {
    ("fixture", torch.float16): (4e-4, 9e-4, 3e-3),
    ("fixture", torch.bfloat16): (5e-3, 1e-2, 3e-2),
    ("eighth", torch.float16): (6e-4, 1.2e-3, 2.5e-3),
    ("eighth", torch.bfloat16): (5e-3, 1e-2, 2e-2),
    ("demo", torch.float16): (4e-4, 1e-3, 0),
    ("demo", torch.bfloat16): (3e-3, 1e-2, 0),
}


@pytest.mark.parametrize(("name", "dtype"), HALF)
def test_half_precision(model: MindEye2, eighth: MindEye2, name: str, dtype: torch.dtype) -> None:
    exact = {"fixture": model, "eighth": eighth}.get(name) or load_mindeye2(assets.BUNDLE / "decoder.safetensors")
    half = load_mindeye2(exact.state_dict(), dtype)
    voxels = torch.randn(4, exact.layout.voxels[0], generator=torch.Generator().manual_seed(1))
    found, expected = fold(half).tokens(voxels.to(dtype)), fold(exact).tokens(voxels)
    for ours, theirs, bound in zip(found, expected, HALF[name, dtype], strict=True):
        if theirs is not None:
            assert ours.dtype == dtype
            assert half_precision(relative(ours, theirs), bound, torch.finfo(dtype).eps)


def test_the_demo_bundle_is_folded_through_its_latent() -> None:
    model = load_mindeye2(assets.BUNDLE / "decoder.safetensors")
    assert isinstance(fold(model), FoldedMindEye2)
    assert fold(model).trunk.layout.hidden == model.layout.hidden < model.layout.voxels[0]


@pytest.mark.parametrize("subject", [0, 1])
def test_folded_in_float32_and_cast_once(model: MindEye2, reference: dict[str, Any], subject: int) -> None:
    """Every weight is the float32 fold's, rounded; rotary frequencies are not rounded."""
    exact, placed = fold(copy.deepcopy(model), subject), fold(copy.deepcopy(model), subject)
    placed.place(Placement("cpu", "bfloat16"))
    for rounded, tensor in zip(placed.tensors(), exact.tensors(), strict=True):
        assert torch.equal(rounded, tensor.bfloat16())
    assert exact.prior is not None
    assert placed.prior is not None
    for (name, rounded), tensor in zip(
        placed.prior.state_dict().items(), exact.prior.state_dict().values(), strict=True
    ):
        kept = tensor if name.endswith("rotary_emb.freqs") else tensor.bfloat16()
        assert torch.equal(rounded, kept)
        assert rounded.dtype == kept.dtype
    voxels = reference[f"voxels{subject}"][:, 0]
    error = placed.tokens(voxels.bfloat16()).retrieval.float() - exact.tokens(voxels).retrieval
    assert half_precision(float(error.norm() / exact.tokens(voxels).retrieval.norm()), 2e-2, 2.0**-7)

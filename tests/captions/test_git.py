"""The words that transformers' own GIT gives, at small size, from folders laid out as they are downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mindsight import compat
from mindsight.captions import Captioner, GitDecoder, GitLayout, TokenConverter
from mindsight.captions.captioner import sentence
from mindsight.errors import ModelMismatch
from mindsight.weights.device import Placement
from support.meta_card import MetaCard
from support.tolerance import network

N, D, M, C, WORDS = 8, 20, 9, 24, 60
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{i}" for i in range(4, WORDS))]


@pytest.fixture(scope="module")
def published() -> Any:
    """The published architecture with random weights; sharp logits, so that no two words are nearly as likely."""
    compat.install()
    from transformers import GitConfig, GitForCausalLM

    config = GitConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        bos_token_id=2,
        eos_token_id=3,
        vision_config={
            "hidden_size": C,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 4,
            "patch_size": 2,
        },
    )
    torch.manual_seed(0)
    model = GitForCausalLM(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape) * 0.6
        elif "LayerNorm" not in name and "norm" not in name:
            parameter.data = torch.randn(parameter.shape) * 0.2
    model.output.bias.data.zero_()
    return model


@pytest.fixture(scope="module")
def converter() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = {"linear1.weight": (M, N), "linear1.bias": (M,), "linear2.weight": (C, D), "linear2.bias": (C,)}
    return {key: torch.randn(shape, generator=rng) / 3 for key, shape in shapes.items()}


@pytest.fixture
def folder(published: Any, converter: dict[str, Tensor], tmp_path: Path) -> Path:
    save_file({key: t.contiguous() for key, t in published.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(published.config.to_dict()))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    torch.save({"model_state_dict": converter, "optimizer": {"lr": 1e-3}}, tmp_path / "bigG_to_L_epoch8.pth")
    return tmp_path


def greedy(published: Any, features_MC: Tensor, max_length: int) -> list[int]:
    """transformers' forward pass over everything again for each word, its image encoder giving our features."""
    published.git.image_encoder.forward = lambda *_, **__: SimpleNamespace(last_hidden_state=features_MC[None])
    words = [2]
    while len(words) < max_length:
        logits = published(
            input_ids=torch.tensor([words]), pixel_values=torch.zeros(1, 3, 4, 4), use_cache=False
        ).logits
        words.append(int(logits[0, -1].argmax()))
        if words[-1] == 3:
            break
    return [word for word in words if word not in (2, 3)] if words[-1] == 3 else words[1:]


def layout(published: Any) -> GitLayout:
    return GitLayout(heads=4, layers=3, begin=2, end=3)


@pytest.mark.slow
def test_the_same_words_as_transformers(published: Any) -> None:
    decoder = GitDecoder(published.state_dict(), layout(published))
    features = torch.randn(6, M, C, generator=torch.Generator().manual_seed(3))
    found = decoder.words(features, 12)
    expected = [greedy(published, row, 12) for row in features]
    assert found == expected
    assert len({tuple(row) for row in found}) > 3
    assert [decoder.words(row[None], 12)[0] for row in features] == found


def test_the_same_logits_as_transformers(published: Any) -> None:
    """Of the first word, for the prefix: features see each other and not the word."""
    decoder = GitDecoder(published.state_dict(), layout(published))
    features = torch.randn(1, M, C, generator=torch.Generator().manual_seed(4))
    published.git.image_encoder.forward = lambda *_, **__: SimpleNamespace(last_hidden_state=features)
    expected = published(input_ids=torch.tensor([[2]]), pixel_values=torch.zeros(1, 3, 4, 4)).logits[0, -1]
    mask = torch.ones(M + 1, M + 1, dtype=torch.bool)
    mask[:M, M:] = False
    x = torch.cat((decoder._projected(features), decoder._embedded(torch.tensor([2]), 0)), dim=1)
    last = decoder._encoded(x, mask, [])
    logits = last @ published.output.weight.T + published.output.bias
    torch.testing.assert_close(logits[0], expected, **network(terms=4 * C, sums=12))


def test_a_sentence_ends_where_the_end_is_likeliest(published: Any) -> None:
    state = dict(published.state_dict())
    state["output.bias"] = torch.zeros(WORDS).index_fill(0, torch.tensor([3]), 1e4)
    assert GitDecoder(state, layout(published)).words(torch.zeros(2, M, C)) == [[], []]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_folder_as_it_is_downloaded(folder: Path, published: Any, converter: dict[str, Tensor], kind: str) -> None:
    if kind == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(published.state_dict(), folder / "pytorch_model.bin")
    tokens = np.random.default_rng(0).normal(size=(3, N, D)).astype(np.float32)
    sentences = Captioner.load(folder).caption(tokens)
    features = torch.einsum("mn,bnd->bmd", converter["linear1.weight"], torch.from_numpy(tokens))
    features = (features + converter["linear1.bias"][:, None]) @ converter["linear2.weight"].T
    features = features + converter["linear2.bias"]
    assert sentences == [sentence(greedy(published, row, 20), tuple(VOCABULARY)) for row in features]
    assert all(text.startswith("word") for text in sentences)


def test_half_precision_projects_alike_and_finds_words(published: Any) -> None:
    """Which of two almost equally likely words is chosen depends on the kernels, so the words are not compared."""
    exact = GitDecoder(published.state_dict(), layout(published))
    half = GitDecoder(published.state_dict(), layout(published), Placement("cpu", "float16"))
    features = torch.randn(6, M, C, generator=torch.Generator().manual_seed(3))
    projected, expected = half._projected(features.half()), exact._projected(features)
    assert projected.dtype == torch.float16
    # weights, features and result are rounded once each, and the norm behind the product keeps relative errors
    bound = 8.0 * torch.finfo(torch.float16).eps * float(expected.abs().max())
    assert float((projected.float() - expected).abs().max()) < bound
    found = half.words(features.half(), 12)
    assert len(found) == len(features)
    assert all(0 <= word < len(VOCABULARY) for row in found for word in row)


def test_on_a_card_words_are_chosen_there(published: Any, converter: dict[str, Tensor], folder: Path) -> None:
    card = Placement("meta", "float16")
    captioner = Captioner.load(folder, card)
    tokens = np.zeros((1, N, D), np.float32)
    with MetaCard() as seen, pytest.raises(RuntimeError):  # meta has no words to return
        captioner.caption(tokens)
    assert seen.uploads == [((1, N, D), torch.float32)]
    assert seen.strays == []
    assert seen.dtypes() == {torch.float16}


def test_pieces_make_a_sentence() -> None:
    pieces = ("[CLS]", "a", "wind", "##mill", ",", "don", "'", "t", "(", "old", ")", ".", "[SEP]")
    assert sentence(list(range(len(pieces))), pieces) == "a windmill, don't (old)."


def test_what_does_not_fit_is_reported(folder: Path, converter: dict[str, Tensor]) -> None:
    captioner = Captioner.load(folder)
    with pytest.raises(ModelMismatch, match="expected 8 tokens of 20 to caption, got 8 of 21"):
        captioner.caption(np.zeros((1, N, D + 1), np.float32))
    narrow = {**converter, "linear2.weight": torch.zeros(5, D), "linear2.bias": torch.zeros(5)}
    torch.save(narrow, folder / "bigG_to_L_epoch8.pth")
    with pytest.raises(ModelMismatch, match="expected a converter to features 24 wide, got one to 5"):
        Captioner.load(folder)
    torch.save({"linear1.weight": torch.zeros(2, 2)}, folder / "bigG_to_L_epoch8.pth")
    with pytest.raises(ModelMismatch, match=r"without linear1\.bias, linear2\.weight"):
        TokenConverter.load(folder / "bigG_to_L_epoch8.pth")
    save_file({"git.embeddings.LayerNorm.weight": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(ModelMismatch, match="3 layers, got weights without"):
        GitDecoder.load(folder)
    (folder / "vocab.txt").unlink()
    with pytest.raises(ModelMismatch, match=r"expected vocab\.txt") as raised:
        Captioner.load(folder)
    assert raised.value.code == "captions.folder"

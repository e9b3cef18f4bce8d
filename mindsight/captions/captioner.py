"""A sentence for a trial: token converter, decoder, and words joined into text.

Knows nothing of trials or sessions. Captions are made from the diffusion prior's tokens, as in Scotti et al. 2024.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.captions.converter import TokenConverter
from mindsight.captions.git import GitDecoder
from mindsight.errors import ModelMismatch
from mindsight.files.digest import sha256_of_file, sha256_of_json
from mindsight.weights.device import HOST, Placement

CONVERTERS = ("converter.safetensors", "bigG_to_L_epoch8.pth")
_FILES = ("config.json", "vocab.txt", "model.safetensors", "pytorch_model.bin")
_OMITTED = frozenset({"[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"})
_CLOSING = (".", ",", "!", "?", ";", ":", ")", "'")


class Captioner:
    """Raises ModelMismatch if converter, decoder and vocabulary do not fit each other."""

    def __init__(
        self,
        converter: TokenConverter,
        decoder: GitDecoder,
        vocabulary: tuple[str, ...],
        digest: str = "",
        placement: Placement = HOST,
    ) -> None:
        if (width := len(converter.along_bias_C)) != decoder.feature_width:
            raise ModelMismatch(
                f"expected a converter to features {decoder.feature_width} wide, got one to {width}",
                code="captions.converter",
            )
        self._converter, self._decoder, self._vocabulary = converter, decoder, vocabulary
        self.digest, self._placement = digest, placement

    @classmethod
    def load(cls, folder: Path, placement: Placement = HOST) -> Captioner:
        """A folder with GIT as it is downloaded (``microsoft/git-large-coco``) and the token converter beside it.

        Files: ``config.json``, ``vocab.txt``, ``model.safetensors`` or ``pytorch_model.bin``, and
        ``bigG_to_L_epoch8.pth`` or ``converter.safetensors``. Nothing is downloaded. ``digest`` is the sha256 of all of
        them.

        Raises ModelMismatch: ``captions.folder`` if one is missing, and those of reading them.
        """
        converter = next((folder / name for name in CONVERTERS if (folder / name).is_file()), None)
        if converter is None or not (folder / "vocab.txt").is_file():
            raise ModelMismatch(
                f"expected vocab.txt and {' or '.join(CONVERTERS)} beside GIT's weights, found none: copy them there",
                code="captions.folder",
            )
        vocabulary = tuple((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
        decoder, files = GitDecoder.load(folder, placement), [converter, *(folder / name for name in _FILES)]
        sums = {path.name: sha256_of_file(path) for path in files if path.is_file()}
        digest = sha256_of_json(sums)
        return cls(TokenConverter.load(converter, placement), decoder, vocabulary, digest, placement)

    def caption(self, tokens_BND: NDArray[np.float32], max_length: int = 20) -> list[str]:
        """One sentence for each row of image tokens; the same tokens give the same sentence.

        Raises ModelMismatch (``captions.tokens``) for tokens of another number or width.
        """
        tokens = self._placement.tensor(np.ascontiguousarray(tokens_BND, dtype=np.float32))
        features_BMC = self._converter(tokens)
        return [sentence(row, self._vocabulary) for row in self._decoder.words(features_BMC, max_length)]


def sentence(words: list[int], vocabulary: tuple[str, ...]) -> str:
    """Join word pieces: ``##`` continues a word; punctuation follows the word before it without a space."""
    text = ""
    for word in words:
        piece = vocabulary[word] if word < len(vocabulary) else "[UNK]"
        if piece in _OMITTED:
            continue
        joined = piece.startswith("##") or piece in _CLOSING or text.endswith(("'", "("))
        text += piece.removeprefix("##") if joined or not text else f" {piece}"
    return text

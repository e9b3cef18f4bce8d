"""Image-to-image with an SDXL base, as MindEye2's reference refines its images (Scotti et al. 2024).

The image is encoded, noised to sigma 1.5 and denoised in 12 steps towards its caption; a quarter of the low-level image
is then blended in. The reference draws from the encoder's posterior; its mean is taken here, so that the seed alone
decides. Letters: B = 1 image, C channels of a latent or numbers of the vector, N tokens of D numbers, H and W.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.files.digest import sha256_of_file, sha256_of_json
from mindsight.generators.refiner.text import ENCODERS, TOKENIZERS, Prompt, TextEncoders, load_text_encoders
from mindsight.generators.sampling.guidance import Guidance
from mindsight.generators.sampling.plan import SamplerPlan, tabulate
from mindsight.generators.sampling.schedule import even, listed
from mindsight.generators.unclip.sdxl.conditioner import numbers_vector
from mindsight.generators.unclip.sdxl.folder import UNET_CONFIG, VAE_CONFIG, read_folder
from mindsight.generators.unclip.sdxl.loading import built
from mindsight.generators.unclip.sdxl.pipeline import Unclip
from mindsight.generators.unclip.sdxl.vae import encode
from mindsight.weights.device import HOST, Placement

_STEPS, _LAST = 25, 12  # of 25 even steps the last 12, which begin at timestep 479
_GUIDANCE = 5.0
_TARGET_PX = 1024  # the size that the base was trained for
_PER_NUMBER = 256  # cosines and sines of one number of the vector
_SHARE = 0.75  # of the refined image in the blend
# what guidance leads away from: the reference's list, word for word
_AWAY = (
    "painting, extra fingers, mutated hands, poorly drawn hands, poorly drawn face, deformed, ugly, blurry,"
    " bad anatomy, bad proportions, extra limbs, cloned face, skinny, glitchy, double torso, extra arms, extra hands,"
    " mangled fingers, missing lips, ugly face, distorted face, extra legs, anime"
)


def refinement_plan() -> SamplerPlan:
    """12 Euler steps from sigma 1.509, each guided."""
    timesteps, _ = even(_STEPS)
    return tabulate(listed(timesteps[-_LAST:]), "euler", Guidance.full(_GUIDANCE))


class Refiner:
    """Raises ModelMismatch (``refiner.text``) if the text encoders are not those of the U-Net."""

    def __init__(self, base: Unclip, text: TextEncoders, digest: str = "") -> None:
        fits = (text.token_dim, text.pooled_dim + 6 * _PER_NUMBER)
        wanted = (base.layout.token_dim, base.layout.vector_dim)
        if fits != wanted:
            raise ModelMismatch(
                f"expected text encoders for the U-Net's tokens of {wanted[0]} and vector of {wanted[1]}, got some for"
                f" {fits[0]} and {fits[1]}: choose a folder of SDXL's base",
                code="refiner.text",
            )
        self._base, self._text, self.digest = base, text, digest
        self._table = refinement_plan()
        self._away = text([_AWAY])

    @classmethod
    def load(cls, folder: Path, placement: Placement = HOST) -> Refiner:
        """A diffusers folder of an SDXL base, as it is downloaded.

        Raises ModelMismatch (``refiner.folder``, and what ``load_unclip`` and ``load_text_encoders`` raise).
        """
        require_folder(folder)
        base = built(read_folder(folder), placement.torch_dtype, placement.device)
        sums = {str(path.relative_to(folder)): sha256_of_file(path) for path in _files(folder)}
        return cls(base, load_text_encoders(folder, placement), sha256_of_json(sums))

    @property
    def evaluations(self) -> int:
        """Of the U-Net, for one image."""
        return self._table.evaluations

    @torch.inference_mode()
    def refine(
        self,
        image_HW3: NDArray[np.uint8],
        caption: str,
        seed: int,
        lowlevel_HW3: NDArray[np.uint8] | None = None,
    ) -> Iterator[NDArray[np.uint8] | None]:
        """None after each step, so that a caller can stop there, and in the end the image, of the same size.

        image_HW3 : height and width are multiples of 8
        lowlevel_HW3 : of any size; None: nothing is blended in
        """
        device, dtype = self._base.device, self._base.unet.dtype
        pixels_13HW = _tensor(image_HW3, device)
        start = encode(self._base.vae, 2.0 * pixels_13HW - 1.0)
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed))
        height_px, width_px, _ = image_HW3.shape
        sizes = numbers_vector([height_px, width_px, 0, 0, _TARGET_PX, _TARGET_PX], _PER_NUMBER)

        def conditioned(prompt: Prompt) -> tuple[Tensor, Tensor]:
            vector = torch.cat([prompt.pooled_BC, sizes[None].to(device, prompt.pooled_BC.dtype)], dim=1)
            return self._base.keys_values(prompt.tokens_BND.to(dtype)), vector.to(dtype)

        pair = [conditioned(prompt) for prompt in (self._away, self._text([caption]))]

        def predict(latent_BCHW: Tensor, timestep: float, _: bool) -> tuple[Tensor, ...]:
            latent, timestep_B = latent_BCHW.to(dtype), torch.full((1,), timestep, device=device)
            return tuple(self._base.denoiser(latent, timestep_B, *given) for given in pair)

        after = range(1, self._table.steps + 1)
        latent = start
        for latent in self._table.estimates(predict, Placement(str(device)).moved(noise), start, after=after):  # noqa: B007 - the last counts
            yield None
        refined_HW3 = self.decoded(latent, (height_px, width_px), lowlevel_HW3)
        refined: NDArray[np.uint8] = refined_HW3.mul(255.0).round().byte().cpu().numpy()
        yield refined

    def decoded(self, latent_BCHW: Tensor, size_px: tuple[int, int], lowlevel_HW3: NDArray[np.uint8] | None) -> Tensor:
        """(H, W, 3) in [0, 1]: the image of a clean latent, with a quarter of the low-level image."""
        refined_13HW = (0.5 * self._base.decoder(latent_BCHW).float() + 0.5).clamp(0.0, 1.0)
        if lowlevel_HW3 is not None:
            low_13HW = _tensor(lowlevel_HW3, self._base.device)
            blurred_13HW = functional.interpolate(low_13HW, size=size_px, mode="bilinear")
            refined_13HW = _SHARE * refined_13HW + (1.0 - _SHARE) * blurred_13HW
        return refined_13HW[0].permute(1, 2, 0)


def require_folder(folder: Path) -> None:
    """Raises ModelMismatch (``refiner.folder``) unless every part of SDXL's base is there."""
    parts = [UNET_CONFIG, VAE_CONFIG, *(f"{name}/config.json" for name in ENCODERS)]
    parts += [f"{name}/vocab.json" for name in TOKENIZERS]
    if lacking := [part for part in parts if not (folder / part).is_file()]:
        raise ModelMismatch(
            f"expected diffusers' folder of SDXL's base in {folder}, got one without {', '.join(lacking)}: download it,"
            " or unset MINDSIGHT_REFINER_DIR",
            code="refiner.folder",
        )


def require_captions(captions: Path | None) -> None:
    """Raises BadRequest (``settings.refiner``) where there is no captioner."""
    if captions is None:
        raise BadRequest(
            "expected MINDSIGHT_CAPTIONS_DIR beside MINDSIGHT_REFINER_DIR, got none: an image is refined by its"
            " caption; set the one or unset the other",
            code="settings.refiner",
        )


def _files(folder: Path) -> list[Path]:
    """What is loaded, and configurations; files beside them, of other formats, are not."""
    parts = ("unet", "vae", *ENCODERS, *TOKENIZERS)
    kinds = (".json", ".txt", ".safetensors")
    return sorted(path for part in parts for path in (folder / part).iterdir() if path.suffix in kinds)


def _tensor(image_HW3: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return Placement(str(device)).moved(image_HW3).permute(2, 0, 1)[None].float() / 255.0

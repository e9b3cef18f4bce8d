"""What the low-level head learns from, made once of all images: ``python -m training.pretraining.lowlevel``.

Latents of Stable Diffusion 1's autoencoder (its mean, times 0.18215), and the teacher's features of each image and of a
few augmentations of it (colour, grey, solarised, cropped a little: Scotti et al. 2024). A run that is stopped begins
again. Letters: M images, A augmentations, B at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindsight.encoders.sources import ImageSource, as_uint8
from mindsight.errors import Conflict, MindsightError
from mindsight.features import LOWLEVEL
from mindsight.files.durable import rename_durably
from mindsight.generators.unclip.sdxl.lowlevel import load_autoencoder
from mindsight.generators.unclip.sdxl.vae import encode
from mindsight.retrieval.from_files import open_images
from training.pretraining.teacher import Teacher, load_teacher

SIZE_PX = 224
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Networks:
    """Frozen, on one device."""

    autoencoder: Any
    teacher: Teacher
    device: str

    @torch.no_grad()
    def targets(self, images_B3HW: Tensor, augmented_AB3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 4, 28, 28) latents, (B, 49, C) and (B, A, 49, C) features, float32, of images in [0, 1]."""
        here = images_B3HW.to(self.device)
        augmented = torch.stack([self.teacher(each.to(self.device)) for each in augmented_AB3HW], dim=1)
        return encode(self.autoencoder, 2.0 * here - 1.0).cpu(), self.teacher(here).cpu(), augmented.cpu()


def make_lowlevel(
    images: ImageSource, networks: Networks, out: Path, augmentations: int, seed: int, report: Callable[[int], None]
) -> None:
    """Write the HDF5 file that ``targets.Lowlevel`` reads; it appears under its name once it is whole.

    report : is told how many images are done

    Raises Conflict (``targets.exists``), BadRequest (``pictures.unreadable``).
    """
    import h5py

    if out.exists():
        raise Conflict(f"expected a new file, {out.name} exists: name another or remove it", code="targets.exists")
    partial = out.with_name(f".{out.name}.partial")
    with h5py.File(partial, "w") as file:
        file["ids"] = [name.encode() for name in images.ids]
        n = len(images.ids)
        file.create_dataset("latents", (n, *LOWLEVEL.shape), np.float16)
        for start, found in _batches(images, networks, augmentations, seed):
            latents, teacher, augmented = (each.numpy().astype(np.float16) for each in found)
            if start == 0:
                file.create_dataset("teacher", (n, *teacher.shape[1:]), np.float16)
                file.create_dataset("augmented", (n, *augmented.shape[1:]), np.float16)
            stop = start + len(latents)
            for name, part in (("latents", latents), ("teacher", teacher), ("augmented", augmented)):
                file[name][start:stop] = part
            report(stop)
    rename_durably(partial, out)


def _batches(
    images: ImageSource, networks: Networks, augmentations: int, seed: int
) -> Iterator[tuple[int, tuple[Tensor, Tensor, Tensor]]]:
    for start in range(0, len(images.ids), _BATCH):
        rows = range(start, min(start + _BATCH, len(images.ids)))
        pixels = torch.stack([_unit(images.read(row)) for row in rows])
        drawn = [
            torch.stack([augmented(one, seed, row, k) for one, row in zip(pixels, rows, strict=True)])
            for k in range(augmentations)
        ]
        yield start, networks.targets(pixels, torch.stack(drawn))


def _unit(image_HW3: NDArray[Any]) -> Tensor:
    """(3, H, W) in [0, 1]."""
    return torch.from_numpy(as_uint8(image_HW3).astype(np.float32)).permute(2, 0, 1) / 255.0


def augmented(image_3HW: Tensor, seed: int, row: int, number: int) -> Tensor:
    """The image in other colours, perhaps grey or solarised, cropped by up to a tenth; drawn from the numbers alone."""
    from torchvision.transforms import v2

    change = v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            v2.RandomGrayscale(0.1),
            v2.RandomSolarize(0.5, p=0.1),
            v2.RandomResizedCrop(image_3HW.shape[-2:], scale=(0.9, 1.0), antialias=False),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng([seed, row, number, 55]).integers(1 << 32)))
        changed: Tensor = change(image_3HW)
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 after an error in one line on stderr."""
    parser = argparse.ArgumentParser(prog="training.pretraining.lowlevel", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, help="a folder or an HDF5 file, as the pool was built from")
    parser.add_argument("out", type=Path, help="HDF5 file to write")
    parser.add_argument("--autoencoder", type=Path, required=True, help="diffusers' folder of Stable Diffusion 1's")
    parser.add_argument("--teacher", type=Path, required=True, help="convnext_xlarge_alpha0.75_fullckpt.pth")
    parser.add_argument("--augmentations", type=int, default=4, help="of each image, of which training draws one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)

    def report(done: int) -> None:
        print(f"{done:,} of {len(images.ids):,} images", file=sys.stderr, flush=True)

    try:
        images = open_images(given.images, SIZE_PX)
        device = given.device
        networks = Networks(load_autoencoder(given.autoencoder, device), load_teacher(given.teacher, device), device)
        make_lowlevel(images, networks, given.out, given.augmentations, given.seed, report)
    except MindsightError as error:
        print(f"mindsight: {error} [{error.code}]", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

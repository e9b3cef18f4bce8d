"""Outputs and images from a folder.

Knows nothing of metrics. A folder of outputs holds ``manifest.json`` (``Manifest``) and any of:

- ``reconstructions``: a folder of PNG or JPEG, in the order of their names, or ``.npy`` (K, H, H, 3), or with S samples
  of each (K, S, H, H, 3), or ``.pt`` as MindEye2 writes it, (K, 3, H, H)
- ``tokens.npy``: (K, ...) decoded embeddings for retrieval
- ``predicted_betas.npy``: (K, V) activity that an encoder predicts for the reconstructions
- ``captions.json``: K strings
- ``live.json``: accuracy of the live results (``records.LiveFigure``)
- ``controls/<name>/``: the same files, made by the whole path from a control's input (``controls.py``)

All are in the order of the manifest's ``image_ids``. Nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.evaluation.records import LiveFigure, Outputs
from mindsight.evaluation.splits import require_disjoint
from mindsight.files.arrays import read_npy
from mindsight.files.images import GIVEN_FORMATS
from mindsight.moved import old_names

_SUFFIXES = {".png", ".jpg", ".jpeg"}
_CAPTIONS: TypeAdapter[list[str | list[str]]] = TypeAdapter(list[str | Annotated[list[str], Field(min_length=1)]])
_LIVE: TypeAdapter[tuple[LiveFigure, ...]] = TypeAdapter(tuple[LiveFigure, ...])


class Manifest(BaseModel):
    """Description of a folder of outputs.

    image_set : ``nsd1000``, ``nsd982``, or any other name
    image_ids : the image of each output; for NSD the 0-based index among the 73,000
    image_names : names for people, in the same order; empty to show the ids
    training_image_ids : the images that the decoder was trained on; neither these nor near-duplicates of them may be
        among ``image_ids``
    cluster_of : id -> number, the same for near-duplicates (``splits.near_duplicates``); an id that is not listed has
        no near-duplicates
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    image_set: str
    image_ids: tuple[int, ...]
    image_names: tuple[str, ...] = ()
    selection: Literal["none", "by_prediction", "by_truth"]
    training_image_ids: tuple[int, ...] = ()
    cluster_of: dict[int, int] = {}

    @model_validator(mode="after")
    def _as_many_names(self) -> Manifest:
        if self.image_names and len(self.image_names) != len(self.image_ids):
            raise ValueError(f"expected {len(self.image_ids)} image_names, got {len(self.image_names)}")
        return self

    @property
    def captions(self) -> tuple[str, ...]:
        """A name for the image of each output."""
        return self.image_names or tuple(map(str, self.image_ids))

    def clusters(self) -> NDArray[np.int64]:
        """(K,) cluster of the image of each output."""
        names = [self._cluster(image_id) for image_id in self.image_ids]
        index_of = {name: i for i, name in enumerate(dict.fromkeys(names))}
        return np.array([index_of[name] for name in names])

    def require_held_out(self) -> None:
        """Raises BadRequest (``split.leak``) if the decoder was trained on a test image or a near-duplicate."""
        require_disjoint(
            {self._cluster(image_id) for image_id in self.training_image_ids},
            {self._cluster(image_id) for image_id in self.image_ids},
        )

    def _cluster(self, image_id: int) -> str:
        return f"cluster {self.cluster_of[image_id]}" if image_id in self.cluster_of else f"image {image_id}"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder of outputs. Raises BadRequest (``answers.manifest``) if it is missing or invalid."""
    try:
        return Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except FileNotFoundError:
        problem = "no such file"
    except ValidationError as error:
        problem = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3])
    raise BadRequest(
        f"expected manifest.json in {folder.name} with name, image_set, image_ids and selection: {problem}",
        code="answers.manifest",
    )


def read_outputs(folder: Path, name: str, selection: str = "none") -> Outputs:
    """The arrays of a folder of outputs, memory-mapped where possible."""
    captions = read_captions(folder / "captions.json")
    return Outputs(
        name=name,
        recons_KSHWC=_reconstructions(folder),
        tokens_KND=read_array(folder / "tokens.npy"),
        predicted_KV=read_array(folder / "predicted_betas.npy"),
        captions_K=None if captions is None else [one[0] for one in captions],
        selection=selection,
    )


def read_live(folder: Path) -> tuple[LiveFigure, ...]:
    """The content of ``live.json``, empty without the file. Raises BadRequest (``answers.live``)."""
    try:
        return _LIVE.validate_json((folder / "live.json").read_bytes())
    except FileNotFoundError:
        return ()
    except ValidationError as error:
        raise BadRequest(f"expected figures in live.json: {error.errors()[0]['msg']}", code="answers.live") from None


def read_controls(folder: Path) -> list[Outputs]:
    """The controls in ``controls/``, by name."""
    root = folder / "controls"
    return [read_outputs(path, path.name.replace("_", " ")) for path in sorted(root.glob("*/"))]


def read_array(path: Path) -> NDArray[Any] | None:
    """A ``.npy``, memory-mapped; None without the file. Raises BadRequest (``answers.array``)."""
    if not path.exists():
        return None
    try:
        return read_npy(path)
    except (OSError, ValueError) as error:
        raise BadRequest(f"expected an array of numbers in {path.name}: {error}", code="answers.array") from None


def read_captions(path: Path) -> list[list[str]] | None:
    """One or more captions of each image, from a JSON list of strings or of lists of strings; None without the file.

    Raises BadRequest (``answers.captions``).
    """
    if not path.exists():
        return None
    try:
        held = _CAPTIONS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadRequest(
            f"expected a list of captions in {path.name}: {error.errors()[0]['msg']}", code="answers.captions"
        ) from None
    return [[one] if isinstance(one, str) else one for one in held]


def read_images(path: Path) -> NDArray[Any]:
    """(K, H, W, 3), or (K, S, H, W, 3), from a folder of images, a ``.npy`` or a ``.pt`` with channels first.

    Raises BadRequest (``pictures.file``) for a missing file, images that differ in size, or a file of another kind.
    """
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".npy":
        array = read_array(path)
        if array is not None:
            return array
    if path.suffix == ".pt" and path.exists():
        return np.moveaxis(_tensor(path), -3, -1)
    raise BadRequest(f"expected a folder of images, a .npy or a .pt, got {path.name}", code="pictures.file")


def _reconstructions(folder: Path) -> NDArray[Any] | None:
    names = ("reconstructions", "reconstructions.npy", "reconstructions.pt")
    found = next((folder / name for name in names if (folder / name).exists()), None)
    if found is None:
        return None
    recons = read_images(found)
    return recons[:, None] if recons.ndim == 4 else recons


def _folder(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
    images = [np.asarray(Image.open(file, formats=GIVEN_FORMATS).convert("RGB")) for file in files]
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise BadRequest(
            f"expected images of one size in {path.name}, got {len(files)} of the sizes {sorted(shapes)}",
            code="pictures.file",
        )
    return np.stack(images)


def _tensor(path: Path) -> NDArray[Any]:
    import torch

    from mindsight.weights.torchfile import read_torch_object

    try:
        held = read_torch_object(path)
    except ModelMismatch as error:
        raise BadRequest(f"expected one tensor in {path.name}: {error}", code="pictures.file") from None
    if not isinstance(held, torch.Tensor) or held.ndim not in (4, 5):
        raise BadRequest(f"expected one tensor of images in {path.name}, channels first", code="pictures.file")
    images: NDArray[Any] = held.numpy()
    return images


if not TYPE_CHECKING:  # which would take any name for one of this module
    __getattr__ = old_names(__name__)

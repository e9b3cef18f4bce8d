"""A split by image: repeats and near-duplicates on one side, and written down."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mindsight.errors import BadRequest
from mindsight.simulator.scenes import random_scenes, render_batch
from support.trials import small_data
from training.datasets.duplicates import fingerprints
from training.datasets.images import ArrayImages
from training.datasets.split import PARTS, Split, split_images
from training.datasets.trials import ArrayBetas, Dataset, SubjectTrials

N_SCENES = 60


def variants(image: np.ndarray) -> list[np.ndarray]:
    """What a person calls the same picture: less contrast, smaller, moved by a pixel, saved with loss."""
    saved = io.BytesIO()
    Image.fromarray(image).save(saved, "JPEG", quality=30)
    small = Image.fromarray(image).resize((40, 40)).resize((64, 64))
    return [
        np.clip(image * 0.8 + 20, 0, 255).astype(np.uint8),
        np.asarray(small),
        np.roll(image, 1, axis=1),
        np.asarray(Image.open(saved)),
    ]


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    """Scenes, then variants of the first, then two of one colour each and one of these again."""
    scenes = render_batch(random_scenes(np.random.default_rng(4), N_SCENES), 64)
    flat = [np.full((64, 64, 3), value, np.uint8) for value in (10, 90, 90)]
    pixels = np.stack([*scenes, *variants(scenes[0]), *flat])
    return ArrayImages(tuple(f"i{k:02d}" for k in range(len(pixels))), pixels)


def dataset_of(images: ArrayImages, fixed: tuple[str, ...] = ()) -> Dataset:
    shown = images.ids + images.ids[:20]
    n = len(shown)
    flags = tuple(image in fixed for image in shown) if fixed else ()
    betas = ArrayBetas(np.zeros((n, 2), np.float32))
    return Dataset((SubjectTrials("s1", betas, shown, ("1",) * n, (1,) * n, "", flags),))


def test_clusters_are_what_a_person_calls_the_same_picture(images: ArrayImages) -> None:
    clusters = fingerprints(images, images.ids).clusters()
    same = [0, *range(N_SCENES, N_SCENES + 4)]
    assert len(set(clusters[same])) == 1
    assert clusters[-1] == clusters[-2] != clusters[-3]
    assert len(set(clusters)) == len(images.ids) - 4 - 1  # no two scenes are taken for one


def test_every_image_has_one_part_and_clusters_are_whole(images: ArrayImages) -> None:
    prints, dataset = fingerprints(images, images.ids), dataset_of(images)
    drawn = [split_images(dataset, prints, validation=0.2, test=0.2, seed=seed) for seed in range(20)]
    for split in drawn:
        assert set(split.part_of) == set(images.ids)
        for cluster in set(split.cluster_of.values()):
            parts = {split.part_of[image] for image in images.ids if split.cluster_of[image] == cluster}
            assert len(parts) == 1
        assert len(split.images("test")) == len(split.images("validation")) == round(0.2 * len(images.ids))
    assert {split.part_of["i00"] for split in drawn} == {"training", "validation", "test"}
    again = split_images(dataset, prints, validation=0.2, test=0.2, seed=3)
    assert again.part_of == drawn[3].part_of


def test_a_sources_own_test_set_is_kept_and_its_near_duplicates_are_left_out(images: ArrayImages) -> None:
    dataset = dataset_of(images, fixed=("i00", "i05"))
    split = split_images(dataset, fingerprints(images, images.ids), validation=0.1, test=0.3, seed=0)
    assert split.images("test") == {"i00", "i05"}
    assert split.images("left out") == {f"i{N_SCENES + k}" for k in range(4)}


def test_the_manifest_states_what_went_where(images: ArrayImages) -> None:
    dataset = dataset_of(images)
    split = split_images(dataset, fingerprints(images, images.ids), validation=0.2, test=0.2, seed=1)
    held = json.loads(json.dumps(split.to_json(dataset)))
    assert held["near_duplicates"]["clusters_of_several"] == 2
    assert held["near_duplicates"]["largest"] == 5
    [subject] = held["subjects"]
    assert sum(subject["trials"].values()) == len(dataset)
    for part in PARTS:
        assert {image for image, row in held["images"].items() if row["part"] == part} == split.images(part)
    assert len({row["sha256"] for row in held["images"].values()}) == len(images.ids) - 1
    other = split_images(dataset, fingerprints(images, images.ids), validation=0.2, test=0.2, seed=2)
    assert other.to_json(dataset)["sha256"] != held["sha256"]


def test_nothing_left_for_a_part_is_refused(images: ArrayImages) -> None:
    few = ArrayImages(images.ids[:2], images.images_MHW3[:2])
    with pytest.raises(BadRequest, match="expected images for training") as raised:
        split_images(dataset_of(few), fingerprints(few, few.ids), validation=0.4, test=0.4, seed=0)
    assert raised.value.code == "split.share"


def test_missing_and_unreadable_images_are_refused() -> None:
    data = small_data()
    with pytest.raises(BadRequest, match="got none for 1 of 151, the first other") as raised:
        fingerprints(data.images, [*data.images.ids, "other"])
    assert raised.value.code == "dataset.images"


def test_a_leak_is_refused(images: ArrayImages) -> None:
    from training.datasets.split import _require_parts

    dataset = dataset_of(images)
    split = split_images(dataset, fingerprints(images, images.ids), validation=0.2, test=0.2, seed=1)
    moved = {**split.part_of, "i00": "training", "i60": "test"}
    with pytest.raises(BadRequest, match="on both sides"):
        _require_parts(replace(split, part_of=moved), {"test"})
    assert isinstance(split, Split)

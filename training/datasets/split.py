"""Which images are trained on and which are held out, written down.

A split is by image: all repeats of an image, in all subjects, and all near-duplicates of it are on one side. Knows
nothing of betas. Letters: M images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mindsight.errors import BadRequest
from mindsight.evaluation.splits import require_disjoint
from mindsight.files.digest import sha256_of_json
from training.datasets.duplicates import COSINE, MEASURE, Fingerprints
from training.datasets.trials import Dataset

Part = Literal["training", "validation", "test", "left out"]
PARTS: tuple[Part, ...] = ("training", "validation", "test", "left out")
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Split:
    """
    part_of : image -> its part; "left out" is a near-duplicate of an image in a source's own test set
    cluster_of : image -> number of its cluster of near-duplicates
    digest_of : image -> sha256 of its pixels
    """

    part_of: Mapping[str, Part]
    cluster_of: Mapping[str, int]
    digest_of: Mapping[str, str]
    seed: int

    def images(self, part: Part) -> set[str]:
        return {image for image, own in self.part_of.items() if own == part}

    def to_json(self, dataset: Dataset) -> dict[str, Any]:
        """The manifest: every image with its part, cluster and digest, and how many trials of whom are where."""
        sizes = Counter(self.cluster_of.values())
        subjects = [
            {
                "subject": subject.subject,
                "voxels": subject.voxels,
                "mask": subject.space,
                "sessions": list(dict.fromkeys(subject.sessions)),
                "trials": {part: sum(self.part_of[image] == part for image in subject.images) for part in PARTS},
            }
            for subject in dataset.subjects
        ]
        images = {
            image: {"part": self.part_of[image], "cluster": self.cluster_of[image], "sha256": self.digest_of[image]}
            for image in sorted(self.part_of)
        }
        return {
            "format": FORMAT,
            "kind": "split",
            "seed": self.seed,
            "near_duplicates": {
                "measure": MEASURE,
                "at_least": COSINE,
                "clusters_of_several": sum(size > 1 for size in sizes.values()),
                "largest": max(sizes.values()),
            },
            "parts": {part: len(self.images(part)) for part in PARTS},
            "subjects": subjects,
            "images": images,
            "sha256": sha256_of_json({"subjects": subjects, "images": images}),
        }


def split_images(
    dataset: Dataset, prints: Fingerprints, *, validation: float, test: float, seed: int, cosine: float = COSINE
) -> Split:
    """Draw the held-out images, whole clusters of near-duplicates together.

    A source's own test set is the test part, whole and alone; near-duplicates of its images are left out. Without one,
    ``test`` is drawn as ``validation`` is.

    validation, test : shares of the images

    Raises BadRequest (``split.share``) if a part would be empty or nothing would be left to train on.
    """
    clusters_M = prints.clusters(cosine)
    fixed = dataset.fixed_test
    held = {int(cluster) for image, cluster in zip(prints.ids, clusters_M, strict=True) if image in fixed}
    part_of: dict[str, Part] = {}
    for image, cluster in zip(prints.ids, clusters_M, strict=True):
        if int(cluster) in held:
            part_of[image] = "test" if image in fixed else "left out"
    members: dict[int, list[str]] = {}
    for image, cluster in zip(prints.ids, clusters_M, strict=True):
        if int(cluster) not in held:
            members.setdefault(int(cluster), []).append(image)
    wanted: list[tuple[Part, int]] = [("validation", round(validation * len(prints.ids)))]
    if not fixed:
        wanted.append(("test", round(test * len(prints.ids))))
    _deal(members, wanted, seed, part_of)
    clusters = {image: int(cluster) for image, cluster in zip(prints.ids, clusters_M, strict=True)}
    split = Split(part_of, clusters, dict(zip(prints.ids, prints.digests, strict=True)), seed)
    _require_parts(split, {part for part, n in wanted if n})
    return split


def _deal(members: dict[int, list[str]], wanted: list[tuple[Part, int]], seed: int, part_of: dict[str, Part]) -> None:
    """Clusters in a random order to each held-out part as long as it has room; the rest is trained on."""
    labels = sorted(members)
    order = [labels[i] for i in np.random.default_rng([seed, 41]).permutation(len(labels))]
    room = dict(wanted)
    for label in order:
        images = members[label]
        free: list[Part] = [part for part, _ in wanted if len(images) <= room[part]]
        part: Part = free[0] if free else "training"
        if part in room:
            room[part] -= len(images)
        part_of.update(dict.fromkeys(images, part))


def _require_parts(split: Split, wanted: set[Part]) -> None:
    counts = {part: len(split.images(part)) for part in PARTS}
    needed: set[Part] = {"training", *wanted}
    for part in sorted(needed):
        if not counts[part]:
            raise BadRequest(
                f"expected images for {part}, got none of {sum(counts.values())} ({counts['test']} for tests,"
                f" {counts['validation']} for validation, {counts['left out']} left out): give more images, or change"
                " the shares",
                code="split.share",
            )
    training = {split.cluster_of[image] for image in split.images("training")}
    require_disjoint(training, {split.cluster_of[i] for i in split.images("test") | split.images("validation")})

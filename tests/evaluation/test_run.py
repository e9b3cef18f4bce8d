"""A folder of outputs, whole: figures, controls, refusals, and what the table, the JSON and the page say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mindsight.errors import BadRequest, NotFound
from mindsight.evaluation import pixcorr
from mindsight.evaluation.image_sets import NSD_982, NSD_1000, image_set
from mindsight.evaluation.metrics.features import two_way_identification
from mindsight.evaluation.metrics.metric import ALEXNET_2
from mindsight.evaluation.metrics.resize import as_unit_images
from mindsight.evaluation.networks import NETWORKS
from mindsight.evaluation.networks.build import build
from mindsight.evaluation.networks.loading import load_network
from mindsight.evaluation.report.published import PUBLISHED, published_rows
from mindsight.evaluation.report.table import text_table
from mindsight.evaluation.run import evaluate_folder
from mindsight.simulator.scenes import random_scenes, render_batch
from support.closed_form import closed_form_weights
from support.reported import Reported

K = 8


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight scenes as PNG, two noisy reconstructions of each, tokens, a control that leaks, AlexNet's weights."""
    folder = tmp_path_factory.mktemp("lab")
    rng = np.random.default_rng(0)
    images = render_batch(random_scenes(rng, K), 64)
    (folder / "images").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"{i:03d}.png")
    recons = 0.6 * images[:, None] + rng.uniform(0, 100, (K, 2, 64, 64, 3))
    outputs = folder / "answers"
    (outputs / "controls" / "shuffled_betas").mkdir(parents=True)
    np.save(outputs / "reconstructions.npy", recons.astype(np.uint8))
    np.save(outputs / "controls" / "shuffled_betas" / "reconstructions.npy", images)  # the image itself: a leak
    tokens = rng.standard_normal((K, 4, 6))
    np.save(folder / "image_tokens.npy", tokens)
    np.save(outputs / "tokens.npy", tokens + 0.1 * rng.standard_normal(tokens.shape))
    betas = rng.standard_normal((K, 20))
    np.save(folder / "betas.npy", betas)
    np.save(outputs / "predicted_betas.npy", betas + rng.standard_normal(betas.shape))
    np.savez(folder / "masks.npz", V1=np.arange(20) < 9, higher=np.arange(20) >= 9)
    write_manifest(outputs)
    (folder / "networks").mkdir()
    torch.save(closed_form_weights(build(NETWORKS[0]).state_dict()), folder / "networks" / "alexnet-owt-7be5be79.pth")
    return folder


def write_manifest(outputs: Path, **changes: Any) -> None:
    manifest = {
        "name": "ours <b>",
        "image_set": "eight scenes",
        "image_ids": list(range(100, 100 + K)),
        "selection": "none",
        "training_image_ids": [1, 2, 3],
    }
    (outputs / "manifest.json").write_text(json.dumps(manifest | changes))


def run(lab: Path, out: Path, **options: Any) -> dict[str, Any]:
    evaluate_folder(lab / "answers", lab / "images", out, **options)
    held: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return held


def full(lab: Path) -> dict[str, Path]:
    return {name: lab / file for name, file in FILES.items()}


FILES = {
    "networks": "networks",
    "image_tokens": "image_tokens.npy",
    "betas": "betas.npy",
    "masks": "masks.npz",
}


def read_images(lab: Path) -> NDArray[np.float32]:
    return as_unit_images(np.stack([np.asarray(Image.open(path)) for path in sorted((lab / "images").iterdir())]))


@pytest.fixture(scope="module")
def report(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("report")
    reported = Reported()
    held = run(lab, out, report=reported, **full(lab))
    reported.check()
    return out, held


@pytest.mark.slow
def test_each_figure_is_the_mean_over_the_samples(lab: Path, report: tuple[Path, dict[str, Any]]) -> None:
    scores = report[1]["rows"][0]["scores"]
    images = read_images(lab)
    recons = np.load(lab / "answers" / "reconstructions.npy")
    samples = [as_unit_images(recons[:, sample]) for sample in range(2)]
    expected = np.mean([pixcorr(images, sample).values_K for sample in samples], axis=0)
    assert scores["pixcorr"]["per_picture"] == pytest.approx(expected, abs=1e-6)
    network = load_network(NETWORKS[0], lab / "networks" / "alexnet-owt-7be5be79.pth")
    of_images = network.features(images)["features.4"]
    shares = [two_way_identification(ALEXNET_2, of_images, network.features(s)["features.4"]).value for s in samples]
    assert scores["alexnet2"]["value"] == pytest.approx(np.mean(shares))
    low, high = scores["pixcorr"]["interval_95"]
    assert low < scores["pixcorr"]["value"] < high
    assert scores["images_ranked"]["value"] == 1.0
    assert scores["images_ranked"]["published_column"] == "Brain"
    assert scores["images_ranked"]["candidates"] == K
    assert 0.3 < scores["brain_V1"]["value"] < 1.0


def test_outputs_compared_with_other_images_score_lower(report: tuple[Path, dict[str, Any]]) -> None:
    ours, _, exchanged = report[1]["rows"]
    assert exchanged["title"] == "pairs exchanged"
    assert exchanged["control"]
    assert exchanged["scores"]["images_ranked"]["value"] == 0.0
    for key in ("pixcorr", "ssim"):
        assert exchanged["scores"][key]["value"] < ours["scores"][key]["interval_95"][0]


def test_a_control_above_chance_is_reported(report: tuple[Path, dict[str, Any]]) -> None:
    out, held = report
    assert [leak.split(" is above")[0] for leak in held["leaks"]] == ["Control shuffled betas"] * 2
    assert "LEAK: Control shuffled betas is above chance in AlexNet(2): 100.0%" in (out / "table.txt").read_text()
    assert "class='warning'" in (out / "evaluation.html").read_text()


def test_what_was_not_measured_gives_the_reason(report: tuple[Path, dict[str, Any]]) -> None:
    missing = report[1]["not_measured"]
    assert set(missing) == {"Inception", "CLIP", "EffNet-B", "SwAV"}
    assert "swav_800ep_pretrain.pth.tar" in missing["SwAV"]


def test_published_rows_stand_only_where_the_images_are_theirs(report: tuple[Path, dict[str, Any]]) -> None:
    out, held = report
    assert held["published"] == []
    table = (out / "table.txt").read_text()
    assert table.index("measured here") < table.index("controls:")
    assert "MindEye2" not in table
    assert "MindEye2" not in (out / "evaluation.html").read_text()
    guess = next(line for line in table.splitlines() if line.startswith("chance "))
    assert guess.split() == ["chance", "–", "–", "50.0", "50.0", *"––––", "12.5", "12.5", "–", "–"]
    assert "images ranked (compare with the published column Brain): 30 draws of 8" in table


@pytest.mark.slow
def test_rows_on_the_same_images_stand_together(lab: Path, tmp_path: Path) -> None:
    measured = evaluate_folder(lab / "answers", lab / "images", tmp_path)
    table = text_table(replace(measured, image_set=NSD_1000))
    assert "published (Scotti et al. 2024, tables 1, 7, 8), same test images" in table
    forty = next(line for line in table.splitlines() if line.startswith("MindEye2 40 h "))
    assert forty.split()[3:13] == ["0.322", "0.431", "96.1", "98.6", "95.4", "93.0", "0.619", "0.344", "98.8", "98.3"]
    same = published_rows(NSD_1000)
    assert {row.title for row in same} >= {"MindEye2 40 h", "MindEye2 1 h"}
    assert not {row.title for row in same} & {"MindEye1", "Brain-Diffuser", "Takagi"}
    assert published_rows(NSD_982) == []
    one_hour = next(row for row in PUBLISHED if row.title == "MindEye2 1 h")
    # what ranks images stands beside the column "Brain"
    assert (one_hour.figures["images_ranked"], one_hour.figures["brains_ranked"]) == (57.4, 79.0)


@pytest.mark.parametrize(("name", "n"), [("nsd1000", 982), ("nsd982", 1000), ("nsd1000", 8)])
def test_982_and_1000_are_not_mixed(name: str, n: int) -> None:
    with pytest.raises(BadRequest, match="different test sets"):
        image_set(name, n)
    assert image_set("nsd982", 982) is NSD_982


class Page(HTMLParser):
    """Collects what a page refers to and how its tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_else(report: tuple[Path, dict[str, Any]]) -> None:
    out, held = report
    text = (out / "evaluation.html").read_text()
    page = Page()
    page.feed(text)
    assert len(page.sources) == K * 3  # shown, ours, the control
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?://|url\(", text)
    assert "ours &lt;b&gt;" in text
    assert "<b>" not in text
    assert held["made_from_sha256"]["pictures"] in text


@pytest.mark.slow
def test_the_same_files_give_the_same_report(lab: Path, report: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    run(lab, tmp_path, **full(lab))
    for name in ("evaluation.json", "evaluation.html", "table.txt"):
        assert (tmp_path / name).read_bytes() == (report[0] / name).read_bytes()


def copy_of(lab: Path, tmp_path: Path, **changes: Any) -> Path:
    """A lab of its own with another manifest; big files are linked."""
    for name in ("images", "image_tokens.npy"):
        (tmp_path / name).symlink_to(lab / name)
    (tmp_path / "answers").mkdir()
    for name in ("reconstructions.npy", "tokens.npy"):
        (tmp_path / "answers" / name).symlink_to(lab / "answers" / name)
    write_manifest(tmp_path / "answers", **changes)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"image_set": "nsd1000"}, "images.count"),
        ({"image_ids": [8, 9]}, "images.count"),
        ({"training_image_ids": [3, 104]}, "split.leak"),
        ({"training_image_ids": [3], "cluster_of": {"3": 1, "104": 1}}, "split.leak"),
        ({"selection": "by_truth"}, "answers.best_of_n"),
        ({"selection": "by_prediction"}, "answers.best_of_n"),
        ({"selection": "perhaps"}, "answers.manifest"),
        ({"surprise": 1}, "answers.manifest"),
    ],
)
def test_outputs_that_would_mislead_are_refused(lab: Path, tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    own = copy_of(lab, tmp_path, **changes)
    with pytest.raises(BadRequest) as caught:
        run(own, tmp_path / "out")
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_best_of_n_can_be_allowed_and_is_then_marked(lab: Path, tmp_path: Path) -> None:
    held = run(copy_of(lab, tmp_path, selection="by_truth"), tmp_path / "out", allow_best_of_n=True)
    assert held["rows"][0]["title"] == "ours <b> [best of n, BY THE TRUTH]"
    assert any("do not compare these figures with published ones" in note for note in held["notes"])


@pytest.fixture(scope="module")
def plain(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pictures and tokens alone, without controls of one's own."""
    folder = tmp_path_factory.mktemp("plain")
    return run(copy_of(lab, folder), folder / "out")


@pytest.mark.slow
def test_repeats_of_an_image_are_one_cluster(lab: Path, plain: dict[str, Any], tmp_path: Path) -> None:
    own = copy_of(lab, tmp_path, image_ids=[1, 1, 1, 1, 2, 2, 2, 2], training_image_ids=[])
    repeated = run(own, tmp_path / "out")
    spans = [held["rows"][0]["scores"]["ssim"]["interval_95"] for held in (plain, repeated)]
    assert spans[0] != spans[1]


@pytest.mark.slow
def test_images_in_the_references_file_are_the_same_images(lab: Path, plain: dict[str, Any], tmp_path: Path) -> None:
    own = copy_of(lab, tmp_path)
    images = np.stack([np.asarray(Image.open(path)) for path in sorted((lab / "images").iterdir())])
    torch.save(torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2), tmp_path / "all_images.pt")
    evaluate_folder(own / "answers", tmp_path / "all_images.pt", tmp_path / "out")
    mine = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert mine["rows"] == plain["rows"]


def test_files_that_are_not_there_are_named(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"betas\.npy"):
        run(lab, tmp_path, betas=tmp_path / "betas.npy")
    with pytest.raises(BadRequest, match=r"manifest\.json"):
        evaluate_folder(lab / "images", lab / "images", tmp_path)


@pytest.mark.slow
def test_captions_stand_beside_the_published_ones(lab: Path, tmp_path: Path) -> None:
    people = [
        ["a red circle", "a circle in red"],
        *(["a house by the sea", f"house {i}"] for i in range(K - 1)),
    ]
    (tmp_path / "people.json").write_text(json.dumps(people))
    given = ["a circle in red", *["a house"] * (K - 1)]
    (lab / "answers" / "captions.json").write_text(json.dumps(given))
    try:
        held = run(lab, tmp_path / "out", captions=tmp_path / "people.json")
        scores = held["rows"][0]["scores"]
        assert scores["caption_rouge1"]["per_picture"] == pytest.approx([1.0] + [4 / 7] * (K - 1), abs=1e-6)
        assert scores["caption_rougeL"]["title"] in (tmp_path / "out" / "evaluation.html").read_text()
        assert held["rows"][-1]["scores"]["caption_rouge1"]["value"] < scores["caption_rouge1"]["value"]
        (tmp_path / "people.json").write_text(json.dumps(people[1:]))
        with pytest.raises(BadRequest, match="of each of 8 images"):
            run(lab, tmp_path / "no", captions=tmp_path / "people.json")
        (tmp_path / "people.json").write_text("[1, 2]")
        with pytest.raises(BadRequest, match=r"people\.json"):
            run(lab, tmp_path / "no", captions=tmp_path / "people.json")
    finally:
        (lab / "answers" / "captions.json").unlink()

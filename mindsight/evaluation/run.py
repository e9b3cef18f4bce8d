"""``mindsight evaluate``: a folder of outputs compared with the images that were shown; table, JSON and a page.

Everything that is measured lies in files; ``from_archive`` makes them of a session's archive.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.archive.read import read_session
from mindsight.errors import BadRequest, NotFound
from mindsight.evaluation.from_session import SessionEvaluation, evaluate_session
from mindsight.evaluation.image_sets import image_set
from mindsight.evaluation.inputs import (
    Manifest,
    read_array,
    read_captions,
    read_controls,
    read_images,
    read_live,
    read_manifest,
    read_outputs,
)
from mindsight.evaluation.measure import measure
from mindsight.evaluation.networks import NETWORKS
from mindsight.evaluation.records import Evaluation, Outputs, Truth
from mindsight.evaluation.report.page import html_page
from mindsight.evaluation.report.session_page import session_page, session_page_json, session_text
from mindsight.evaluation.report.session_section import session_json
from mindsight.evaluation.report.table import as_json, text_table
from mindsight.evaluation.session_summary import SessionSummary
from mindsight.files.arrays import read_npz
from mindsight.shares import Report, unreported, within
from mindsight.stages import STAGES

_AGAIN = 0.85  # share of the time that decoding the betas again takes, as for the demo's session
_UNCHECKED = (
    "Not checked: whether the decoder was trained on these images or near-duplicates of them. Give the manifest's"
    " training_image_ids and cluster_of to have it checked."
)


def evaluate_folder(
    outputs: Path,
    images: Path,
    out: Path,
    *,
    networks: Path | None = None,
    image_tokens: Path | None = None,
    betas: Path | None = None,
    masks: Path | None = None,
    captions: Path | None = None,
    seed: int = 0,
    allow_best_of_n: bool = False,
    n_shown: int = 60,
    device: str = "cpu",
    report: Report = unreported,
) -> Evaluation:
    """Measure the outputs by every metric that the given files allow; write ``table.txt``, ``evaluation.json`` and
    ``evaluation.html`` into ``out``.

    outputs : a folder as ``mindsight.evaluation.inputs`` describes it
    images : the images that were shown, in the order of the manifest's ``image_ids``: a folder, a ``.npy`` or a ``.pt``
    networks : a folder with the published weight files, under their published names
        (``evaluation.networks.NETWORKS``); a metric without its network is listed as not measured
    image_tokens : ``.npy`` (K, ...) the images' own embeddings, for retrieval
    betas, masks : ``.npy`` (K, V) measured activity and ``.npz`` region -> (V,) bool, for brain correlation
    captions : JSON with K captions by people, or lists of them
    n_shown : number of images on the page
    report : receives what is being measured, and the share of all that is done

    Raises BadRequest if the files do not fit each other, a test image was trained on, or reconstructions were
    selected among several; NotFound if a named file does not exist.
    """
    _require_existing(outputs, images, networks, image_tokens, betas, masks, captions)
    manifest = read_manifest(outputs)
    manifest.require_held_out()
    truth = _truth(manifest, read_images(images), image_tokens, betas, masks, captions)
    given = read_outputs(outputs, manifest.name, manifest.selection)
    controls = read_controls(outputs)
    loaded = _load_networks(networks, device)
    evaluation = measure(
        truth,
        given,
        controls,
        loaded,
        seed=seed,
        allow_best_of_n=allow_best_of_n,
        live=read_live(outputs),
        report=report,
    )
    session = SessionSummary.load(outputs)
    if not manifest.training_image_ids:
        evaluation.notes.append(_UNCHECKED)
    made_from = _digests(truth, given) | {f"weights of {network.spec.key}": network.digest for network in loaded}
    page = html_page(
        evaluation, truth, given, controls,
        captions=manifest.captions, made_from=made_from, n_shown=n_shown, session=session,
    )  # fmt: skip
    more = {"image_ids": manifest.image_ids, "made_from_sha256": made_from}
    more |= {} if session is None else {"session": session_json(session)}
    _write(out, text_table(evaluation), as_json(evaluation) | more, page)
    return evaluation


def evaluate_archive(
    archive: Path,
    out: Path,
    *,
    stage: str = "final",
    bundle: Path | None = None,
    generator: Path | None = None,
    networks: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    report: Report = unreported,
) -> Evaluation | SessionEvaluation:
    """Measure a session by its archive.

    A session with reconstructions is measured by the published metrics too; the folder of outputs that is measured then
    stays in ``out``. The arguments and errors are those of ``from_archive.export_session`` and ``evaluate_folder``. One
    without reconstructions, as of labels, has no use for ``generator`` and ``networks``.
    """
    from mindsight.evaluation.from_archive import export_session

    _require_existing(archive, bundle, generator)
    known = next((name for name in STAGES if name == stage), None)
    if known is None:
        raise BadRequest(f"expected a stage of {', '.join(STAGES)}, got {stage!r}", code="evaluate.options")
    if not read_session(archive).reconstructions:
        if generator is not None or networks is not None:
            raise BadRequest(
                f"expected no generator and no networks for {archive.name}, which has no reconstructions to measure",
                code="evaluate.options",
            )
        evaluation = evaluate_session(archive, bundle=bundle, seed=seed)
        _write(out, session_text(evaluation), session_page_json(evaluation), session_page(evaluation))
        return evaluation
    again = 0.0 if bundle is None else _AGAIN
    export_session(
        archive, out, known, bundle=bundle, generator=generator, seed=seed, report=within(report, 0.0, again)
    )
    return evaluate_folder(
        out / "answers",
        out / "images.npy",
        out,
        networks=networks,
        image_tokens=None if bundle is None else out / "image_tokens.npy",
        seed=seed,
        device=device,
        report=within(report, again, 1.0),
    )


def _write(out: Path, table: str, figures: dict[str, Any], page: str) -> None:
    whole = json.dumps(figures, indent=1, allow_nan=False)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.txt").write_text(table, encoding="utf-8")
    (out / "evaluation.json").write_text(whole + "\n", encoding="utf-8")
    (out / "evaluation.html").write_text(page, encoding="utf-8")


def _require_existing(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.exists():
            raise NotFound(f"expected a file or folder, got {path.name}, which does not exist", code="evaluate.path")


def _truth(
    manifest: Manifest,
    images: NDArray[Any],
    image_tokens: Path | None,
    betas: Path | None,
    masks: Path | None,
    captions: Path | None,
) -> Truth:
    n = len(manifest.image_ids)
    tokens_KND = None if image_tokens is None else read_array(image_tokens)
    betas_KV = None if betas is None else read_array(betas)
    for what, rows in (("images", images), ("image tokens", tokens_KND), ("measured betas", betas_KV)):
        if rows is not None and len(rows) != n:
            raise BadRequest(f"expected {n} {what}, one for each image id, got {len(rows)}", code="images.count")
    regions = {}
    if masks is not None:
        try:
            regions = {name: mask.astype(bool) for name, mask in read_npz(masks).items()}
        except (OSError, ValueError) as error:
            raise BadRequest(f"expected regions in {masks.name}: {error}", code="answers.array") from None
    return Truth(
        image_set=image_set(manifest.image_set, n),
        images_KHWC=images,
        clusters_K=manifest.clusters(),
        tokens_KND=tokens_KND,
        betas_KV=betas_KV,
        masks=regions,
        captions_K=None if captions is None else read_captions(captions),
    )


def _load_networks(folder: Path | None, device: str) -> list[Any]:
    if folder is None:
        return []
    from mindsight.evaluation.networks.loading import load_network

    found = [(spec, spec.locate(folder)) for spec in NETWORKS]
    return [load_network(spec, path, device) for spec, path in found if path is not None]


def _digests(truth: Truth, outputs: Outputs) -> dict[str, str]:
    arrays = {
        "pictures": truth.images_KHWC,
        "reconstructions": outputs.recons_KSHWC,
        "tokens": outputs.tokens_KND,
    }
    return {name: _digest(array) for name, array in arrays.items() if array is not None}


def _digest(array: NDArray[Any]) -> str:
    summed = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for row in array:
        summed.update(np.ascontiguousarray(row).data)
    return summed.hexdigest()

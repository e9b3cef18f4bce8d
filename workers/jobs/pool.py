"""A candidate pool as a job: from images that were uploaded, or from a folder of stimuli on the service's machine.

A build that was ended goes on from the pool's unfinished folder.
"""

from __future__ import annotations

from pathlib import Path

from mindsight.blobs import open_shown
from mindsight.errors import BadRequest, NotFound
from mindsight.files.images import image_kind
from mindsight.protocol.jobs import PoolTask
from mindsight.retrieval import Progress
from mindsight.retrieval.from_files import build_from_files
from workers.jobs.desk import Desk

_SUFFIX = {"png": ".png", "jpeg": ".jpg"}


def build(desk: Desk, task: PoolTask) -> str:
    """Carry the task out; what was made, in words. Raises NotFound (``pool.images``), and as ``build_from_files``."""
    out = desk.settings.pools_dir / task.pool
    if out.exists():  # published by this job before it was ended; no other job may have this name
        return f"the pool {task.pool} is there"
    images = _folder(desk, task)

    def report(progress: Progress) -> None:
        desk.progress("images", progress.done, progress.n)
        for skipped in progress.skipped:
            desk.note("pool.image", f"{skipped.id} is left out: {skipped.why}")

    out.parent.mkdir(parents=True, exist_ok=True)
    pool = build_from_files(images, out, weights=desk.settings.encoder_weights, report=report)
    return f"{len(pool):,} candidates {pool.token_shape}, {pool.source}"


def _folder(desk: Desk, task: PoolTask) -> Path:
    if task.folder is not None:
        folder = desk.settings.stimuli_dir / task.folder
        if not folder.is_dir():
            raise NotFound(
                f"expected a folder {task.folder} in the service's stimuli, got none: put the images there, or upload"
                " them",
                code="pool.images",
            )
        return folder
    folder, store = desk.scratch / "images", open_shown(desk.settings)
    folder.mkdir(exist_ok=True)
    for image in task.images:
        payload = store.get(image.image)
        kind = image_kind(payload)
        if kind not in _SUFFIX:
            raise BadRequest(f"expected a PNG or a JPEG for {image.id}, got something else", code="image.format")
        path = folder / f"{_file_name(image.id)}{_SUFFIX[kind]}"
        if not path.exists():
            path.write_bytes(payload)
    return folder


def _file_name(candidate: str) -> str:
    """A candidate's id is the name of its file, so that it must be one."""
    if "/" in candidate or "\\" in candidate or candidate.startswith(".") or "\0" in candidate:
        raise BadRequest(
            f"expected ids of candidates that can be names of files, got {candidate!r}: leave out slashes and a leading"
            " dot",
            code="pool.id",
        )
    return candidate

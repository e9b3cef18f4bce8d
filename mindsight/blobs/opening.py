"""Which store the settings ask for. What a bucket needs is imported only where one is named."""

from __future__ import annotations

from pathlib import Path

from mindsight.blobs.protocol import Blobs
from mindsight.blobs.store import BlobStore
from mindsight.errors import NotInstalled
from mindsight.settings import Settings


def open_blobs(settings: Settings) -> Blobs:
    """The store of volumes, betas and what is made of them. Raises NotInstalled."""
    return _open(settings, settings.blobs_dir)


def open_shown(settings: Settings) -> Blobs:
    """The store of images that are shown to participants. Raises NotInstalled."""
    return _open(settings, settings.shown_dir)


def _open(settings: Settings, folder: Path) -> Blobs:
    if not settings.blobs_url:
        return BlobStore(folder)
    try:
        from mindsight.blobs.s3 import S3Blobs
    except ModuleNotFoundError:
        raise NotInstalled('MINDSIGHT_BLOBS_URL needs s3fs, not installed here: pip install "mindsight[s3]"') from None
    return S3Blobs(settings.blobs_url, folder.name)

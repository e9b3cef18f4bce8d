"""Formats of images that are not read, and how to turn them into one that is. Knows nothing of what is in files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_OTHERS = {
    (".hdr", ".img", ".hdr.gz", ".img.gz"): "header and data in two files (.hdr/.img); convert them to one .nii",
    (".head", ".brik", ".brik.gz", ".brik.bz2"): "AFNI's format (.HEAD/.BRIK); convert it: 3dAFNItoNIFTI",
    (".mgz", ".mgh"): "FreeSurfer's format; convert it: mri_convert to .nii.gz",
    (".mnc",): "MINC; convert it: mnc2nii",
    (".nrrd", ".nhdr"): "NRRD; convert it to NIfTI",
    (".zip", ".tar", ".tgz", ".tar.gz", ".7z"): "an archive of files; unpack it",
    (".nii.bz2", ".nii.xz", ".nii.zst"): "NIfTI in another compression than gzip; unpack it",
}


def other_format(paths: Iterable[Path]) -> str | None:
    """What these files are by their names, in words; None where none is of a format that is known."""
    for path in paths:
        name = path.name.lower()
        for endings, words in _OTHERS.items():
            if name.endswith(endings):
                return words
    return None

"""Image formats that are not read, and how to convert them. Knows nothing of the files' content."""

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
    """The format of these files by their names, in words with advice; None if no known format is among them."""
    for path in paths:
        name = path.name.lower()
        for endings, words in _OTHERS.items():
            if name.endswith(endings):
                return words
    return None

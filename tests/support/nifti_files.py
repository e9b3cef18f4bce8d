"""A volume as a NIfTI image."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from mindsight.volume import Volume


def image(volume: Volume, tr_s: float | None = 1.97) -> nib.Nifti1Image:
    nifti = nib.Nifti1Image(np.asarray(volume.data), volume.affine)
    nifti.header.set_xyzt_units("mm", "sec" if tr_s else None)
    if tr_s:
        nifti.header["pixdim"][4] = tr_s
    return nifti

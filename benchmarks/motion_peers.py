"""Motion correction by other programs, each as one function: reference and volume in, (4, 4) reference mm -> volume mm.

Knows nothing of ours. What is not installed is left out; nothing is installed here. Each is used as its documentation
shows it for rigid registration of one subject's volumes, on one thread, from rest: none of them carries anything over
from volume to volume.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.preprocessing.motion import rigid
from mindsight.volume import Volume

Array = NDArray[np.float64]
Estimate = Callable[[Volume, Volume], Array]


# SimpleITK and antspyx work on the voxel grid scaled to millimetres; ``_frame`` takes that to the scanner's.


def _frame(volume: Volume) -> Array:
    return volume.affine @ np.diag([*(1.0 / volume.voxel_mm), 1.0])


def _in_scanner(reference: Volume, matrix: Array) -> Array:
    return _frame(reference) @ matrix @ np.linalg.inv(_frame(reference))


def _simpleitk() -> Estimate:
    """Euler transform, mean squares on 10 % of the voxels, regular step descent."""
    sitk = import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def image(volume: Volume) -> Any:
        out = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.T, dtype=np.float32))
        out.SetSpacing(volume.voxel_mm.tolist())
        return out

    def estimate(reference: Volume, volume: Volume) -> Array:
        centre = ((np.array(reference.shape) - 1) / 2 * reference.voxel_mm).tolist()
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMeanSquares()
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.1, 1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 100)
        method.SetOptimizerScalesFromPhysicalShift()
        first = sitk.Euler3DTransform()
        first.SetCenter(centre)
        method.SetInitialTransform(first, inPlace=True)
        method.Execute(image(reference), image(volume))
        rotation = np.array(first.GetMatrix()).reshape(3, 3)
        return _in_scanner(reference, rigid.about(rotation, np.array(first.GetTranslation()), np.array(centre)))

    return estimate


def _antspyx() -> Estimate:
    """BOLDRigid, the preset that ANTs offers for motion correction."""
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    ants = import_module("ants")

    def image(volume: Volume) -> Any:
        return ants.from_numpy(np.asarray(volume.data, np.float32), spacing=volume.voxel_mm.tolist())

    def estimate(reference: Volume, volume: Volume) -> Array:
        found = ants.registration(image(reference), image(volume), type_of_transform="BOLDRigid", random_seed=1)
        transform = ants.read_transform(found["fwdtransforms"][0])
        for path in {*found["fwdtransforms"], *found["invtransforms"]}:
            os.unlink(path)
        rotation, shift = np.array(transform.parameters[:9]).reshape(3, 3), np.array(transform.parameters[9:])
        return _in_scanner(reference, rigid.about(rotation, shift, np.array(transform.fixed_parameters)))

    return estimate


def _dipy() -> Estimate:
    """affine_registration with its own pipeline up to rigid."""
    align = import_module("dipy.align")
    import_module("logging").getLogger("dipy").setLevel("WARNING")

    def estimate(reference: Volume, volume: Volume) -> Array:
        _, matrix = align.affine_registration(
            volume.data.astype(np.float64),
            reference.data.astype(np.float64),
            moving_affine=volume.affine,
            static_affine=reference.affine,
            pipeline=["center_of_mass", "translation", "rigid"],
        )
        return np.asarray(matrix)

    return estimate


_PEERS: dict[str, tuple[str, Callable[[], Estimate]]] = {
    "SimpleITK": ("SimpleITK", _simpleitk),
    "antspyx": ("ants", _antspyx),
    "dipy": ("dipy", _dipy),
}


def installed() -> dict[str, Estimate]:
    """Those that are there, fastest first."""
    return {name: make() for name, (module, make) in _PEERS.items() if find_spec(module) is not None}


def missing() -> list[str]:
    """Those that are not."""
    return [name for name, (module, _) in _PEERS.items() if find_spec(module) is None]

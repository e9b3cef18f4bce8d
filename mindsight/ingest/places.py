"""Where each volume's head is in the subject's space, and its voxels there by one interpolation.

Knows nothing of betas, trials or messages. V voxels of the space's mask.

Motion is estimated against a reference that looks like the volumes: the subject's own where the session's first volume
fits it as it lies (the visit of the calibration), else that volume. It is placed in the subject's space once: by the
realigner where it looks alike, which is exact and fast, else by ``register``, which takes seconds and gives a verdict.
From there on session, run and volume pose are one matrix.

Each run is placed with its first volume: head, table, slices and coverage may be others than in the run before. What
fits the present reference is placed by it; what does not is looked for anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.ingest.placement import How, Placement
from mindsight.ingest.records import Space
from mindsight.preprocessing import Aligned, Realigner
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.registration.register import Registration, register
from mindsight.volume import Volume

Float64Array = NDArray[np.float64]

# Of seven real and two simulated heads, the same one leaves 0.01 unexplained, another one 0.12 and more, a flipped one
# 0.35. Below this it is the same, and the realigner's pose is exacter than a registration's.
SAME_RESIDUAL = 0.1
FIT_RESIDUAL = 0.2  # a new run whose volumes look so different from the session's is looked for anew
NEAR_MM = 3.0  # nearer than this, the subject's reference is as good as one where the head lies
MAX_TRIES = 3  # per run; each may take seconds


@dataclass(frozen=True, eq=False)
class Placed:
    """One volume's pose against the present reference, its voxels in the subject's space, and whether to use them.

    placement : where this volume told where its run is
    """

    aligned: Aligned
    voxels_V: NDArray[np.float32]
    converged: bool
    placement: Placement | None = None


@dataclass(frozen=True, eq=False)
class _Found:
    """A reference, and where in the subject's space it is."""

    how: How
    realigner: Realigner
    aligned: Aligned
    to_reference: Float64Array
    unexplained: float | None
    registration: Registration | None = None


class Places:
    """What is known of a session's place. Raises as ``Realigner`` does.

    fast, device : of ``Realigner``

    The same volumes give the same bits, also where ``state`` and ``load_state`` stand between any two of them.
    """

    def __init__(self, space: Space, *, fast: bool = False, device: str | None = None) -> None:
        self._space = space
        self._fast, self._device = fast, device
        affine = space.reference.affine
        self._points_V3 = np.argwhere(space.mask_XYZ) @ affine[:3, :3].T + affine[:3, 3]
        self._subject = self._realigner_to(space.reference)
        self._fresh = self._subject.state()
        self._realigner = self._subject
        self._to_reference = np.eye(4)  # mm of the subject's reference -> mm of the present one
        self._trusted: bool | None = None  # None: nothing was found yet
        self._settled = False  # this run is where it seems to be, or cannot be found
        self._tries = 0
        self._said = False
        self._uncovered_V: NDArray[np.bool_] = np.zeros(space.n_voxels, np.bool_)

    @property
    def trusted(self) -> bool:
        """Whether the present place is more than a guess."""
        return self._trusted is True

    @property
    def uncovered_V(self) -> NDArray[np.bool_]:
        """(V,) voxels that lie outside of the run's volumes."""
        return self._uncovered_V

    def start_run(self) -> None:
        """The next volume is a run's first."""
        self._settled, self._tries, self._said = False, 0, False

    def place(self, volume: Volume) -> Placed:
        """The next volume. Usually milliseconds; a run's first ones may take seconds."""
        if self._settled and self._said:
            return self._sampled(self._align(volume))
        aligned = None
        if self._trusted or (self._trusted is False and self._tries > 0):
            aligned = self._align(volume)
            if aligned.converged and aligned.residual <= FIT_RESIDUAL:
                self._settled = True
                how: How = "subject" if self._realigner is self._subject else "session"
                return self._sampled(aligned, None if self._said else self._placement(volume, aligned, how))
        if self._tries < MAX_TRIES:
            self._tries += 1
            kept = self._realigner.state()
            found = self._find(volume)
            if isinstance(found, _Found):
                return self._move_to(volume, found)
            self._realigner.load_state(kept)
            self._settled = self._tries == MAX_TRIES
            if self._settled and not self._said and found is not None:
                return self._given_up(volume, aligned or self._align(volume), found)
        return replace(self._sampled(aligned or self._align(volume)), converged=False)

    def _find(self, volume: Volume) -> _Found | Registration | None:
        """The volume in the subject's space; a refusal where what is known is better; None where it holds no head."""
        subject = self._subject
        subject.load_state(self._fresh)
        aligned = self._align(volume, subject)
        if _is_same(aligned):
            if rigid.displacement_mm(aligned.rigid, subject.centre_mm) <= NEAR_MM:
                return _Found("subject", subject, aligned, np.eye(4), aligned.residual)
            return self._as_reference(volume, "realigned", aligned.rigid, aligned.residual)
        try:
            registration = register(volume, self._space.reference)
        except BadVolume:
            return None
        if not registration.converged:
            if self._trusted:
                return registration
            return self._as_reference(volume, "refused", registration.rigid, None, registration)
        # From so near the realigner may see that it is the same head after all, and place it exacter.
        pose = rigid.inverse(registration.rigid)
        subject.load_state({**self._fresh, "pose": pose})
        aligned = self._align(volume, subject)
        if _is_same(aligned):
            return self._as_reference(volume, "registered", aligned.rigid, aligned.residual, registration)
        return self._as_reference(volume, "registered", registration.rigid, None, registration)

    def _as_reference(
        self,
        volume: Volume,
        how: How,
        pose: Float64Array,
        unexplained: float | None,
        registration: Registration | None = None,
    ) -> _Found | None:
        try:
            realigner = self._realigner_to(_in_file_order(volume))
        except BadVolume:
            return None
        return _Found(how, realigner, realigner.align(volume), pose, unexplained, registration)

    def _move_to(self, volume: Volume, found: _Found) -> Placed:
        """Take what was found for the present reference. A guess is no pose: its volume must not count."""
        self._realigner, self._to_reference = found.realigner, found.to_reference
        recovered = self._trusted is False and found.how != "refused"
        self._trusted = found.how != "refused"
        self._settled = found.how == "subject"  # another reference must show that the next volume fits it
        placement = self._placement(volume, found.aligned, found.how, found.unexplained, found.registration)
        placement = replace(placement, recovered=recovered)
        return replace(self._sampled(found.aligned, placement), converged=self.trusted)

    def _given_up(self, volume: Volume, aligned: Aligned, refusal: Registration) -> Placed:
        """The present place stays; the run is not there, and none of its volumes counts until one is."""
        to_volume = refusal.rigid
        distance_mm = rigid.displacement_mm(to_volume, self._subject.centre_mm)
        covered_V = self._shown(volume, to_volume)
        share = float(covered_V.mean())
        placement = Placement(volume.run, volume.index, "refused", to_volume, distance_mm, share, None, refusal)
        return replace(self._sampled(aligned, placement), converged=False)

    def _shown(self, volume: Volume, to_volume: Float64Array) -> NDArray[np.bool_]:
        """(V,) voxels that lie within a volume."""
        matrix = np.linalg.inv(volume.affine) @ to_volume
        voxels_V3 = self._points_V3 @ matrix[:3, :3].T + matrix[:3, 3]
        return np.asarray(((voxels_V3 >= -0.5) & (voxels_V3 <= np.array(volume.shape) - 0.5)).all(axis=1))

    def _placement(
        self,
        volume: Volume,
        aligned: Aligned,
        how: How,
        unexplained: float | None = None,
        registration: Registration | None = None,
    ) -> Placement:
        to_volume = aligned.rigid @ self._to_reference
        covered_V = self._shown(volume, to_volume)
        self._uncovered_V = np.asarray(~covered_V)
        self._said = True
        return Placement(
            run=volume.run,
            index=volume.index,
            how=how,
            rigid=to_volume,
            displacement_mm=rigid.displacement_mm(to_volume, self._subject.centre_mm),
            coverage=float(covered_V.mean()),
            unexplained=aligned.residual if how in ("subject", "session") else unexplained,
            registration=registration,
        )

    def _sampled(self, aligned: Aligned, placement: Placement | None = None) -> Placed:
        if self._realigner is self._subject:
            voxels_V = aligned.sample(self._space.mask_XYZ)
        else:
            voxels_V = aligned.sample(self._points_V3, self._to_reference)
        return Placed(aligned, voxels_V, aligned.converged, placement)

    def _realigner_to(self, reference: Volume) -> Realigner:
        return Realigner(reference, fast=self._fast, device=self._device)

    def _align(self, volume: Volume, realigner: Realigner | None = None) -> Aligned:
        """Its pose; not ``converged`` also where the volume lies elsewhere than the reference."""
        realigner = realigner or self._realigner
        try:
            return realigner.align(volume)
        except BadVolume:
            return Aligned(realigner.reference, volume, np.eye(4), realigner.centre_mm, converged=False, residual=1.0)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that depends on the volumes so far, as arrays."""
        trusted = -1 if self._trusted is None else int(self._trusted)
        arrays: dict[str, NDArray[Any]] = {
            **{f"realigner.{name}": array for name, array in self._realigner.state().items()},
            "to_reference": self._to_reference.copy(),
            "flags": np.array([trusted, self._settled, self._tries, self._said]),
            "uncovered_V": self._uncovered_V.copy(),
        }
        if self._realigner is not self._subject:
            reference = self._realigner.reference
            arrays["reference.data"], arrays["reference.affine"] = reference.data, reference.affine
            arrays["reference.scan"] = np.array([reference.tr_s, reference.run, reference.index], np.float64)
        return arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state()`` of the same space, with the same bits."""
        self._realigner = self._subject
        if "reference.data" in state:
            tr_s, run, index = state["reference.scan"].tolist()
            reference = Volume(
                np.array(state["reference.data"]), np.array(state["reference.affine"]), tr_s, int(run), int(index)
            )
            self._realigner = self._realigner_to(_in_file_order(reference))
        prefix = "realigner."
        self._realigner.load_state(
            {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
        )
        self._to_reference = np.array(state["to_reference"], np.float64)
        trusted, settled, tries, said = state["flags"].tolist()
        self._trusted = None if trusted < 0 else bool(trusted)
        self._settled, self._tries, self._said = bool(settled), int(tries), bool(said)
        self._uncovered_V = np.array(state["uncovered_V"], np.bool_)


def _is_same(aligned: Aligned) -> bool:
    return aligned.converged and aligned.residual <= SAME_RESIDUAL


def _in_file_order(volume: Volume) -> Volume:
    """x fastest in memory, always: the realigner's sums follow that order, which a way through a file may change."""
    return replace(volume, data=np.asfortranarray(volume.data))

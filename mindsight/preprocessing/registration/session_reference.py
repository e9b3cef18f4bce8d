"""A session's motion reference: each volume's pose in the subject's space, and its voxels by one interpolation.

Knows nothing of betas, trials or messages. V voxels of the subject's mask.

Motion is estimated against a reference that looks like the volumes: the subject's own reference where the session's
first volume fits it without a new pose (the visit of the calibration), otherwise that volume. It is registered to the
subject's space once: by the realigner if the two look alike, which is accurate and fast, otherwise by ``register``,
which takes seconds and returns a verdict. After that the poses of session, run and volume are one matrix.

Each run is registered with its first volume: head, table, slices and coverage may differ from the run before. A volume
that fits the present reference is registered through it; otherwise the search starts again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.aligned import Aligned
from mindsight.preprocessing.motion.realign import Realigner
from mindsight.preprocessing.registration.register import Registration, register
from mindsight.preprocessing.registration.report import Against, How, RegistrationReport
from mindsight.volume import Volume

Float64Array = NDArray[np.float64]

# Measured on seven real and two simulated heads: the same head leaves 0.01 unexplained, another head 0.12 and more, a
# flipped one 0.35. Below this it is the same head, and the realigner's pose is more accurate than a registration's.
SAME_RESIDUAL = 0.1
FIT_RESIDUAL = 0.2  # a new run whose volumes differ more from the session's reference is registered again
NEAR_MM = 3.0  # within this distance the subject's reference is as good as the session's first volume
MAX_TRIES = 3  # per run; each may take seconds


@dataclass(frozen=True, eq=False)
class RegisteredVolume:
    """One volume in the subject's space.

    aligned : its pose against the present reference
    voxels_V : (V,) its voxels in the subject's space
    converged : whether to use them
    report : the run's registration, if this volume determined it
    """

    aligned: Aligned
    voxels_V: NDArray[np.float32]
    converged: bool
    report: RegistrationReport | None = None


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A volume that may become the session's reference, and its pose in the subject's space."""

    how: How
    realigner: Realigner
    aligned: Aligned
    to_reference: Float64Array
    unexplained: float | None
    registration: Registration | None = None


class SessionReference:
    """Registers a session's volumes to the subject's space. Raises as ``Realigner`` does.

    reference : the subject's reference volume
    mask_XYZ : (X, Y, Z) bool on its grid, V voxels
    against : what the reference is, for the reports
    fast, device : of ``Realigner``

    The same volumes give the same bits, also with ``state`` and ``load_state`` between any two of them.
    """

    def __init__(
        self,
        reference: Volume,
        mask_XYZ: NDArray[np.bool_],
        *,
        against: Against = "calibration",
        fast: bool = False,
        device: str | None = None,
    ) -> None:
        self._against = against
        self._mask_XYZ = mask_XYZ
        self._fast, self._device = fast, device
        affine = reference.affine
        self._points_V3 = np.argwhere(mask_XYZ) @ affine[:3, :3].T + affine[:3, 3]
        self._subject = self._realigner_to(reference)
        self._fresh = self._subject.state()
        self._realigner = self._subject
        self._to_reference = np.eye(4)  # mm of the subject's reference -> mm of the present one
        self._trusted: bool | None = None  # None: no volume was registered yet
        self._settled = False  # this run is registered, or its attempts are used up
        self._tries = 0
        self._reported = False
        self._uncovered_V: NDArray[np.bool_] = np.zeros(len(self._points_V3), np.bool_)

    @property
    def trusted(self) -> bool:
        """Whether the present registration can be used."""
        return self._trusted is True

    @property
    def uncovered_V(self) -> NDArray[np.bool_]:
        """(V,) bool, voxels outside the run's volumes."""
        return self._uncovered_V

    def start_run(self) -> None:
        """The next volume is a run's first."""
        self._settled, self._tries, self._reported = False, 0, False

    def register(self, volume: Volume) -> RegisteredVolume:
        """The next volume. Usually takes milliseconds; a run's first volumes may take seconds."""
        if self._settled and self._reported:
            return self._sampled(self._align(volume))
        aligned = None
        if self._trusted or (self._trusted is False and self._tries > 0):
            aligned = self._align(volume)
            if aligned.converged and aligned.residual <= FIT_RESIDUAL:
                self._settled = True
                how: How = "subject" if self._realigner is self._subject else "session"
                return self._sampled(aligned, None if self._reported else self._report(volume, aligned, how))
        if self._tries < MAX_TRIES:
            self._tries += 1
            kept = self._realigner.state()
            found = self._search(volume)
            if isinstance(found, _Candidate):
                return self._adopt(volume, found)
            self._realigner.load_state(kept)
            self._settled = self._tries == MAX_TRIES
            if self._settled and not self._reported and found is not None:
                return self._refuse(volume, aligned or self._align(volume), found)
        return replace(self._sampled(aligned or self._align(volume)), converged=False)

    def _search(self, volume: Volume) -> _Candidate | Registration | None:
        """The volume's pose in the subject's space.

        Returns a refused registration if the present one is trusted and stays; None if the volume has no head.
        """
        subject = self._subject
        subject.load_state(self._fresh)
        aligned = self._align(volume, subject)
        if _is_same(aligned):
            if rigid.displacement_mm(aligned.rigid, subject.centre_mm) <= NEAR_MM:
                return _Candidate("subject", subject, aligned, np.eye(4), aligned.residual)
            return self._as_reference(volume, "realigned", aligned.rigid, aligned.residual)
        try:
            registration = register(volume, self._subject.reference)
        except BadVolume:
            return None
        if not registration.converged:
            if self._trusted:
                return registration
            return self._as_reference(volume, "refused", registration.rigid, None, registration)
        # Started from this pose, the realigner may recognise the same head and give a more accurate pose.
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
    ) -> _Candidate | None:
        try:
            realigner = self._realigner_to(_in_file_order(volume))
        except BadVolume:
            return None
        return _Candidate(how, realigner, realigner.align(volume), pose, unexplained, registration)

    def _adopt(self, volume: Volume, found: _Candidate) -> RegisteredVolume:
        """Make this the session's reference. A refused pose is a guess: its volume must not be used."""
        self._realigner, self._to_reference = found.realigner, found.to_reference
        recovered = self._trusted is False and found.how != "refused"
        self._trusted = found.how != "refused"
        self._settled = found.how == "subject"  # a new reference is confirmed by the next volume
        report = self._report(volume, found.aligned, found.how, found.unexplained, found.registration)
        report = replace(report, recovered=recovered)
        return replace(self._sampled(found.aligned, report), converged=self.trusted)

    def _refuse(self, volume: Volume, aligned: Aligned, refusal: Registration) -> RegisteredVolume:
        """Keep the present reference; the run does not fit it, and none of its volumes is used until one does."""
        to_volume = refusal.rigid
        distance_mm = rigid.displacement_mm(to_volume, self._subject.centre_mm)
        covered_V = self._covers(volume, to_volume)
        share = float(covered_V.mean())
        report = RegistrationReport(
            volume.run, volume.index, "refused", to_volume, distance_mm, share, None, refusal, against=self._against
        )
        return replace(self._sampled(aligned, report), converged=False)

    def _covers(self, volume: Volume, to_volume: Float64Array) -> NDArray[np.bool_]:
        """(V,) bool, voxels that lie within a volume."""
        matrix = np.linalg.inv(volume.affine) @ to_volume
        voxels_V3 = self._points_V3 @ matrix[:3, :3].T + matrix[:3, 3]
        return np.asarray(((voxels_V3 >= -0.5) & (voxels_V3 <= np.array(volume.shape) - 0.5)).all(axis=1))

    def _report(
        self,
        volume: Volume,
        aligned: Aligned,
        how: How,
        unexplained: float | None = None,
        registration: Registration | None = None,
    ) -> RegistrationReport:
        to_volume = aligned.rigid @ self._to_reference
        covered_V = self._covers(volume, to_volume)
        self._uncovered_V = np.asarray(~covered_V)
        self._reported = True
        return RegistrationReport(
            run=volume.run,
            index=volume.index,
            how=how,
            rigid=to_volume,
            displacement_mm=rigid.displacement_mm(to_volume, self._subject.centre_mm),
            coverage=float(covered_V.mean()),
            unexplained=aligned.residual if how in ("subject", "session") else unexplained,
            registration=registration,
            against=self._against,
        )

    def _sampled(self, aligned: Aligned, report: RegistrationReport | None = None) -> RegisteredVolume:
        if self._realigner is self._subject:
            voxels_V = aligned.sample(self._mask_XYZ)
        else:
            voxels_V = aligned.sample(self._points_V3, self._to_reference)
        return RegisteredVolume(aligned, voxels_V, aligned.converged, report)

    def _realigner_to(self, reference: Volume) -> Realigner:
        return Realigner(reference, fast=self._fast, device=self._device)

    def _align(self, volume: Volume, realigner: Realigner | None = None) -> Aligned:
        """The volume's pose; not ``converged`` if it does not overlap the reference."""
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
            "flags": np.array([trusted, self._settled, self._tries, self._reported]),
            "uncovered_V": self._uncovered_V.copy(),
        }
        if self._realigner is not self._subject:
            reference = self._realigner.reference
            arrays["reference.data"], arrays["reference.affine"] = reference.data, reference.affine
            arrays["reference.scan"] = np.array([reference.tr_s, reference.run, reference.index], np.float64)
        return arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state()`` made with the same reference and mask, with the same bits."""
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
        trusted, settled, tries, reported = state["flags"].tolist()
        self._trusted = None if trusted < 0 else bool(trusted)
        self._settled, self._tries, self._reported = bool(settled), int(tries), bool(reported)
        self._uncovered_V = np.array(state["uncovered_V"], np.bool_)


def _is_same(aligned: Aligned) -> bool:
    return aligned.converged and aligned.residual <= SAME_RESIDUAL


def _in_file_order(volume: Volume) -> Volume:
    """With x fastest in memory: the realigner sums in that order, which reading from a file may change."""
    return replace(volume, data=np.asfortranarray(volume.data))

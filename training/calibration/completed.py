"""A calibrated bundle with what is measured of its reconstructions: their fit, and the errors that guide them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from training.calibration.decoding_errors import guided_by_ranking
from training.calibration.fits import LeftOut, Reconstructor, fit_of, reconstruct_left_out
from training.calibration.record import Calibrated, with_reconstructions
from training.calibration.runs import LabelledRun


def completed(
    calibrated: Calibrated,
    runs: Sequence[LabelledRun],
    left_out: Sequence[LeftOut],
    index_of: Mapping[str, int],
    reconstructor: Reconstructor | None,
    in_pool_prior: float | None,
) -> Calibrated:
    """The bundle with decoding errors, if the ranking is to guide reconstructions, and with the fit of these, some of
    which are in the record, if there is a reconstructor.

    index_of : label of a trial -> index of its candidate in the pool

    Raises as ``guided_by_ranking``.
    """
    bundle, record = calibrated.bundle, calibrated.record
    if in_pool_prior is not None:
        bundle = guided_by_ranking(bundle, runs, left_out, index_of, in_pool_prior)
    if reconstructor is not None:
        made = reconstruct_left_out(bundle, runs, left_out, reconstructor)
        bundle = replace(bundle, fit=fit_of(made, reconstructor.meter))
        ids_of = {label: bundle.pool.ids[index] for label, index in index_of.items()}
        record = with_reconstructions(record, made, ids_of)
    return Calibrated(bundle, record)

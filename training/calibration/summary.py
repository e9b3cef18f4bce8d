"""What calibration reports of a new bundle."""

from __future__ import annotations

from mindsight.stages import STAGES
from mindsight.subjects.bundle.folder import Bundle


def summary(bundle: Bundle) -> str:
    """Candidates, voxels and trials, what was chosen on the runs, and the accuracy; one line each."""
    calibration = bundle.calibration
    held_out = (
        "each run left out once, options chosen on the same runs"
        if bundle.kind == "linear"
        else "held out only if the weights never saw these runs"
    )
    return "\n".join(
        [
            f"{len(bundle.pool)} candidates from {bundle.labels}, {bundle.space.n_voxels} voxels,"
            f" {bundle.statistics.n} trials",
            f"{_glm(bundle)}: chosen on these runs",
            f"{_decoder(bundle)}: chosen on these runs",
            f"accuracy {bundle.accuracy} ({held_out})",
            f"temperature {calibration.temperature:.3f}, mean confidence for shuffled betas"
            f" {calibration.null_confidence:.2f}",
            *_stages(bundle),
            _fit(bundle),
        ]
    )


def _decoder(bundle: Bundle) -> str:
    """How the decoder was fitted, and what scores are measured from."""
    centred = "centred on their mean" if bundle.calibration.centred else "not centred"
    return f"{bundle.decoder.describe()}; embeddings {centred}; temperature"


def _stages(bundle: Bundle) -> list[str]:
    """The temperature of each stage that was calibrated, with a run's first beta and later."""
    return [
        f"{stage}: temperature {fitted.temperature:.3f} at a run's first beta,"
        f" {fitted.temperature_at(fitted.n_run):.3f} after {fitted.n_run} ({fitted.n} trials)"
        for stage, fitted in bundle.calibration.stages.items()
    ]


def _fit(bundle: Bundle) -> str:
    """At which stages the fit of a reconstruction is calibrated."""
    stages = {} if bundle.fit is None else bundle.fit.stages
    listed = ", ".join(f"{stage} ({stages[stage].n} trials)" for stage in STAGES if stage in stages)
    return f"fit of reconstructions: {f'calibrated at {listed}' if stages else 'not calibrated'}"


def _glm(bundle: Bundle) -> str:
    """The options that are always set, and those that are off by default."""
    options = bundle.options
    parts = f"events {options.event_lag_s:+g} s, high-pass {options.high_pass_hz:g} Hz, noise {options.noise}"
    if options.event_duration_s is not None:
        parts += f", events modelled with {options.event_duration_s:g} s"
    if bundle.space.hrf_V is not None:
        parts += ", a response per voxel"
    if bundle.space.lag_V is not None:
        parts += ", slices at their own times"
    if options.ridge_fraction is not None:
        parts += f", revised and final betas by ridge with fraction {options.ridge_fraction:g}"
    if options.n_noise_components:
        parts += f", {options.n_noise_components} noise components"
    return parts

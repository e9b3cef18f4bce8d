"""A run's betas as a session returns them: in the subject's space, with the statistics to z-score them by.

Knows nothing of volumes. V voxels of the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindsight.glm import Normaliser
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.run import Run, RunBeta
from mindsight.preprocessing.registration.session_reference import SessionReference
from mindsight.stages import Stage


@dataclass(frozen=True, eq=False)
class BetaScorer:
    """Takes betas into the session's statistics and adds these to each.

    normaliser : of the session
    reference : of the session; None if the run's volumes are not registered
    """

    normaliser: Normaliser
    reference: SessionReference | None

    def due_betas(self, run: Run) -> list[TrialBeta]:
        """The betas whose time has come."""
        betas = []
        for trial, stage in run.take_due():
            beta = run.beta(trial, stage)
            if self.normaliser.by_run and self._learns_from(beta):
                others = run.estimates(stage)
                self.normaliser.put_all({other: self._covered(trial, others[other]) for other in others})
            self._learn(trial, beta)
            betas.append(self._scored(run, trial, stage, beta))
        return betas

    def final_betas(self, run: Run) -> list[TrialBeta]:
        """All final betas that were not delivered yet, of a run that has ended; each counts in the statistics."""
        finals = run.final_betas()
        for trial, beta in finals.items():
            if run.has_risen(trial):
                self._learn(trial, beta)
        betas = [self._scored(run, trial, "final", beta) for trial, beta in finals.items()]
        self.normaliser.end_run()
        return betas

    def _learn(self, trial: int, beta: RunBeta) -> None:
        if self._learns_from(beta):
            self.normaliser.put(trial, self._covered(trial, beta.beta_V))

    def _learns_from(self, beta: RunBeta) -> bool:
        """Whether it counts in the statistics: not if it is of no volumes, nor if the run could not be registered."""
        return beta.n_volumes > 0 and (self.reference is None or self.reference.trusted)

    def _covered(self, trial: int, beta_V: NDArray[np.float32]) -> NDArray[np.float32]:
        """With the mean that it is z-scored by in a voxel outside the volumes."""
        if self.reference is None or not self.reference.uncovered_V.any():
            return beta_V
        statistics, _ = self.normaliser.statistics(trial)
        return np.where(self.reference.uncovered_V, statistics.mean_V, beta_V)

    def _registered(self, trial: int, beta: RunBeta) -> RunBeta:
        """The beta given the run's registration.

        A voxel outside the volumes has the mean that it is z-scored by. The beta is flagged if the pose is a guess.
        """
        if self.reference is None:
            return beta
        if not self.reference.trusted:
            beta = beta._replace(flagged=True, flagged_by=(*beta.flagged_by, "registration"))
        uncovered_V = self.reference.uncovered_V
        if not uncovered_V.any():
            return beta
        statistics, _ = self.normaliser.statistics(trial)
        error_V = None if beta.error_V is None else np.where(uncovered_V, statistics.std_V, beta.error_V)
        return beta._replace(beta_V=self._covered(trial, beta.beta_V), error_V=error_V)

    def _scored(self, run: Run, trial: int, stage: Stage, beta: RunBeta) -> TrialBeta:
        statistics, source = self.normaliser.statistics(trial)
        return TrialBeta(
            run=run.number,
            trial=trial,
            stage=stage,
            **self._registered(trial, beta)._asdict(),
            mean_V=statistics.mean_V,
            std_V=statistics.std_V,
            n_statistics=statistics.n,
            normalised_by=source,
            n_run=self.normaliser.n_run,
            warming_up=self.normaliser.warming_up(trial),
        )

"""The density of a new observation, given earlier ones of the same Gaussian whose covariance is unknown.

Letters: K observations, P numbers of each, B new ones.

A. Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.6: with Jeffreys' prior, and a mean that is known, it is a
multivariate Student's t. With few observations its tails are heavy, which keeps likelihood ratios from being more
certain than the observations are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import gammaln

from mindsight.errors import ModelMismatch


@dataclass(frozen=True, eq=False)
class Predictive:
    """scatter_PP : (P, P) sum of the outer products of ``n`` observations with themselves."""

    scatter_PP: NDArray[np.float64]
    n: int

    @classmethod
    def of(cls, observations_KP: NDArray[Any]) -> Predictive:
        """Raises ModelMismatch (``calibration.few``) unless observations are more than the numbers of one."""
        n, width = observations_KP.shape
        if n <= width:
            raise ModelMismatch(
                f"expected more than {width} trials for errors of {width} numbers, got {n}: add calibration runs",
                code="calibration.few",
            )
        wide_KP = observations_KP.astype(np.float64)
        return cls(wide_KP.T @ wide_KP, n)

    def log_density(self, new_BP: NDArray[Any]) -> NDArray[np.float64]:
        """(B,) natural logarithm of the density at each new observation."""
        width = len(self.scatter_PP)
        freedom = self.n - width + 1
        root_PP = np.linalg.cholesky(self.scatter_PP)
        whitened_PB = solve_triangular(root_PP, np.asarray(new_BP, np.float64).T, lower=True)
        constant = gammaln((freedom + width) / 2.0) - gammaln(freedom / 2.0) - 0.5 * width * np.log(np.pi)
        half_log_det = float(np.log(np.diag(root_PP)).sum())
        squares_B = np.square(whitened_PB).sum(axis=0)
        density_B: NDArray[np.float64] = constant - half_log_det - 0.5 * (freedom + width) * np.log1p(squares_B)
        return density_B

"""The one cycle is torch's."""

from __future__ import annotations

import pytest
import torch

from training.course.schedule import one_cycle


@pytest.mark.parametrize(("steps", "warm_up"), [(50, 0.1), (200, 0.02), (7, 0.5)])
def test_rates_are_those_of_torch(steps: int, warm_up: float) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    peer = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-4, steps, pct_start=warm_up, cycle_momentum=False, final_div_factor=1000
    )
    for step in range(steps):
        assert one_cycle(3e-4, step, steps, warm_up) == pytest.approx(peer.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if step + 1 < steps:
            peer.step()

"""The long form: the notebook against the whole service, which scans its simulated participant."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from mindsight.client import Service
from support.whole_service import whole_service

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_the_notebook_runs_a_simulated_session_and_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    monkeypatch.delenv("MINDSIGHT_SESSION", raising=False)
    with whole_service(tmp_path) as service:
        monkeypatch.setenv("MINDSIGHT_URL", service.url)
        monkeypatch.setenv("MINDSIGHT_KEY", service.key)
        names: dict[str, Any] = {}
        for cell in json.loads((EXAMPLES / "watch_session.ipynb").read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
        assert names["result"].pool_size == 100
        assert names["beta_V"].size > 100
        with Service(service.url, service.key).enter(names["session"].session) as session:
            assert session.wait(1, "final", 300, run=1).stage == "final"
            until_s = time.monotonic() + 300.0
            while session.messages()[-1].type != "session.archived" and time.monotonic() < until_s:
                time.sleep(0.5)
            assert session.reconstruction(1, run=1).shape[2] == 3
            figure = session.plot_beta(1, run=1)
            assert figure is not None
            motion = session.motion()
            assert motion["fd_mm"].notna().any()
            assert motion["index"].is_monotonic_increasing
    mpl.pyplot.close("all")

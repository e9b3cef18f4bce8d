"""A volume that states another repetition time than its run was declared with is refused before it is taken."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume


def payload(tr_s: float) -> bytes:
    return encode_volume(Volume(np.zeros((4, 5, 6), np.int16), np.eye(4), tr_s, 1, 0))


@pytest.mark.parametrize("tr_s", [1.5, 2.1, 0.35])
def test_another_tr_is_refused_by_both_figures(admin: httpx.Client, session: str, tr_s: float) -> None:
    """The run of the session was declared with 2 s."""
    place = f"/v1/sessions/{session}/runs/1/volumes/0"
    refused = admin.put(place, content=payload(tr_s))
    assert refused.status_code == 422
    assert refused.json()["code"] == "volume.tr_mismatch"
    assert "2 s" in refused.json()["detail"]
    assert f"{tr_s:g} s" in refused.json()["detail"]
    assert admin.put(place, content=payload(2.0004)).status_code == 200  # rounding

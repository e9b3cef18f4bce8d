"""The address of the gateway on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindsight.client.address import gateway_url
from mindsight.errors import ServiceUnavailable


def test_it_is_what_the_gateway_wrote(tmp_path: Path) -> None:
    (tmp_path / "gateway.json").write_text('{"url": "http://127.0.0.1:8420"}')
    assert gateway_url(tmp_path) == "http://127.0.0.1:8420"


@pytest.mark.parametrize("left", [None, "", "{}", "[]"])
def test_without_a_gateway_the_error_states_what_to_do(tmp_path: Path, left: str | None) -> None:
    """A power loss may leave an empty file."""
    if left is not None:
        (tmp_path / "gateway.json").write_text(left)
    with pytest.raises(ServiceUnavailable, match=r"mindsight serve.*--to"):
        gateway_url(tmp_path)

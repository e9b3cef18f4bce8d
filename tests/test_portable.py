"""The list of ``make test-portable`` names files that exist; with one that does not, pytest runs none of them."""

from __future__ import annotations

import pytest

from portable import NUMERICAL, TESTS


@pytest.mark.parametrize("path", NUMERICAL)
def test_every_numerical_test_is_there(path: str) -> None:
    assert (TESTS / path).exists()

"""What ``mindsight serve`` tells a person about keys."""

from __future__ import annotations

from typing import get_args

from mindsight.operations.welcome import Heard, dashboard, welcome
from service.keys import PURPOSES, Role

KEYS = {role: f"ms_{role}" for role in get_args(Role)}


def test_each_key_is_printed_with_what_it_is_for_and_one_address_is_to_click() -> None:
    heard = Heard()
    for role, key in KEYS.items():
        heard(f"{role} key: {key}")
    heard("mindsight gateway ready at http://127.0.0.1:8420")
    text = "\n".join(welcome("http://127.0.0.1:8420", heard.keys()))
    for role in get_args(Role):
        assert f"{role:<12}  {KEYS[role]}" in text
        assert PURPOSES[role] in text
    assert text.count("http://127.0.0.1:8420/#key=ms_experimenter") == text.count("http") == 1


def test_a_later_start_tells_how_to_get_another_key() -> None:
    heard = Heard()
    heard("mindsight gateway ready at http://127.0.0.1:8420")
    text = "\n".join(welcome("http://127.0.0.1:8420", heard.keys()))
    assert "mindsight key new experimenter" in text
    assert "#key" not in text


def test_an_address_names_the_session() -> None:
    assert dashboard("http://h:1", "ms_a", "ses-1") == "http://h:1/#key=ms_a&session=ses-1"

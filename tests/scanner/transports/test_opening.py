"""One line of text names a transport, and a wrong one is refused with what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindsight.errors import BadRequest
from mindsight.scanner.transports import open_transport
from mindsight.scanner.transports.afni_receiver import AfniReceiver
from mindsight.scanner.transports.cstore import CStoreReceiver
from mindsight.scanner.transports.mrd_receiver import MrdReceiver
from mindsight.scanner.transports.murfi import MurfiReceiver
from mindsight.scanner.transports.watch import FolderWatch
from support.taking import CLOCK

COMMON = "shape=64x64x33&tr=1.97&n=155&moco=1&idle=0.1&late=2"


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("watch:{folder}?mode=polling&existing=1&whole=5&" + COMMON, FolderWatch),
        ("watch://{folder}", FolderWatch),
        ("cstore://:0?ae=RT&calling=A,B&stall=5&" + COMMON, CStoreReceiver),
        ("afni://127.0.0.1:0?data=0&allow=127.0.0.0/8,::1&stall=5&" + COMMON, AfniReceiver),
        ("murfi://localhost:0?allow=10.0.0.0/8&" + COMMON, MurfiReceiver),
        ("mrd://localhost:0?allow=10.0.0.0/8&return=none&stall=5&" + COMMON, MrdReceiver),
    ],
)
def test_each_opens_and_closes(spec: str, kind: type, tmp_path: Path) -> None:
    with open_transport(spec.format(folder=tmp_path), clock=CLOCK, run=3) as transport:
        assert isinstance(transport, kind)
        if COMMON in spec:
            assert list(transport.items()) == []
        if not isinstance(transport, FolderWatch):
            assert transport.address[0] == "127.0.0.1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "spec",
    [
        *("", "watch", "http://x", "watch:/nowhere/Doe", "watch:.?mode=guess"),
        *("watch:.?ae=x", "cstore://:0?shape=64x64"),
        *("cstore:11112", "cstore://:99999", "cstore://:x", "cstore://h/path", "cstore://:0?tr=0", "cstore://:0?tr=nan"),
        *("cstore://:0?n=-1", "cstore://:0?cert=/nowhere/Doe.pem", "afni://:0?data=x", "afni://:0?allow=everybody"),
        *("mrd://:0?return=all", "mrd://:0?data=1"),
        *("murfi://:0?idle=", "murfi://:0?nonsense=1", "murfi://256.256.256.256:0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(spec: str) -> None:
    with pytest.raises(BadRequest) as caught:
        open_transport(spec, clock=CLOCK)
    assert "Doe" not in str(caught.value)
    assert caught.value.code in ("transport.spec", "transport.address", "watch.folder")


@pytest.mark.parametrize(("option", "echo"), [("echo=3", 3), ("echo=combine", "combine"), ("late=1", None)])
def test_the_echo_is_chosen_in_the_address(option: str, echo: object) -> None:
    with open_transport(f"murfi://127.0.0.1:0?{option}", clock=CLOCK) as transport:
        assert transport._assembler._expected.echo == echo  # type: ignore[attr-defined]
    for wrong in ("0", "x", "-1", "99"):
        with pytest.raises(BadRequest, match="expected the echo"):
            open_transport(f"murfi://127.0.0.1:0?echo={wrong}", clock=CLOCK)

"""Every form of address is read, and a wrong one is refused without its password."""

from __future__ import annotations

import pytest

from mindsight.bus.address import Address, read_address
from mindsight.errors import BadRequest


def test_one_server_is_what_the_library_reads() -> None:
    url = "rediss://user:p%40ss@lab:6380/2?ssl_ca_certs=/etc/ca.pem"
    assert read_address(url) == Address("one", url)
    assert read_address(url).shown == "lab:6380"
    assert read_address("unix:///run/my%20bus.sock").shown == "/run/my%20bus.sock"
    assert read_address("redis://lab/0?replicas=1&db=3") == Address("one", "redis://lab/0?db=3", replicas=1)


def test_a_cluster_is_some_of_its_nodes() -> None:
    found = read_address("rediss+cluster://:p%40ss@a.lab:7000,b.lab,[::1]:7002/?ssl_ca_certs=/etc/ca.pem&replicas=2")
    assert (found.form, found.replicas) == ("cluster", 2)
    assert found.places == (("a.lab", 7000), ("b.lab", 6379), ("::1", 7002))
    assert found.url_of(("10.0.0.9", 7001)) == "rediss://:p%40ss@10.0.0.9:7001/?ssl_ca_certs=%2Fetc%2Fca.pem"
    assert found.url_of(found.places[2]).startswith("rediss://:p%40ss@[::1]:7002/")


def test_sentinels_have_a_password_of_their_own_and_name_a_service() -> None:
    found = read_address("redis+sentinel://u:pw@s1,s2:26380/decoder?sentinel_password=other&db=1")
    assert (found.form, found.service, found.sentinel) == ("sentinel", "decoder", (None, "other"))
    assert found.places == (("s1", 26379), ("s2", 26380))
    assert found.url_of(("h", 1)) == "redis://u:pw@h:1/?db=1"


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://:secret@a:port/",
        "redis+cluster://:secret@/",
        "redis+cluster://:secret@a,,b/",
        "redis+cluster://:secret@a/1",
        "redis+sentinel://:secret@a/",
        "redis+sentinel://:secret@/decoder",
        "redis+other://:secret@a/",
        "redis://:secret@a/?replicas=some",
    ],
)
def test_another_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadRequest, match="MINDSIGHT_REDIS_URL") as refused:
        read_address(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)

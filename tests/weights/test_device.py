"""Where networks compute: chosen once, and the same features in and out of every device of this machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mindsight.errors import BadRequest, MindsightError
from mindsight.weights.device import HOST, Placement, choose, on_host

META = Placement("meta", "float16")


def have_cards(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)


def test_the_first_card_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    have_cards(monkeypatch, 2)
    assert choose("auto") == Placement("cuda:0", "float16")
    assert choose("cuda:1") == Placement("cuda:1", "float16")
    assert choose("cpu") == HOST == Placement("cpu", "float32")
    have_cards(monkeypatch, 0)
    assert choose("auto") == HOST


@pytest.mark.parametrize(("cards", "expected"), [(0, "cpu or auto"), (2, "one of 2 cards, cuda:0 to cuda:1")])
def test_a_card_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, cards: int, expected: str) -> None:
    have_cards(monkeypatch, cards)
    with pytest.raises(BadRequest, match=expected) as error:
        choose("cuda:2")
    assert error.value.code == "settings.device"


def test_the_host_computes_with_the_same_memory() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = HOST.tensor(array)
    assert np.shares_memory(HOST.feature(tensor), array)
    assert on_host(array) is array


def test_features_stay_on_a_card_in_its_precision() -> None:
    tensor = META.tensor(np.zeros((2, 3), np.float32))
    assert (tensor.device.type, tensor.dtype, tensor.shape) == ("meta", torch.float16, (2, 3))
    assert META.feature(tensor) is tensor
    assert META.moved(np.zeros(3, np.int64)).dtype == torch.int64


def test_half_precision_comes_to_the_host_in_float32() -> None:
    tensor = Placement("cpu", "float16").tensor(np.array([1.0, 0.1], np.float32))
    host = on_host(tensor)
    assert host.dtype == np.float32
    np.testing.assert_allclose(host, [1.0, 0.1], rtol=2.0**-11)


def test_weights_are_cast_and_tables_are_not() -> None:
    module = torch.nn.Linear(3, 2)
    module.register_buffer("frequencies", torch.ones(4))
    META.place(module)
    assert {(p.device.type, p.dtype) for p in module.parameters()} == {("meta", torch.float16)}
    assert module.get_buffer("frequencies").dtype == torch.float32
    assert module.get_buffer("frequencies").device.type == "meta"


def test_used_up_memory_is_reported_and_other_errors_are_not_touched() -> None:
    with pytest.raises(MindsightError, match="MINDSIGHT_DEVICE=cpu") as error, META.memory_reported():
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")
    assert error.value.code == "device.memory"
    with pytest.raises(RuntimeError, match="shape"), META.memory_reported():
        raise RuntimeError("shape")


def test_only_a_card_has_streams_and_memory_of_its_own() -> None:
    assert HOST.free_bytes() is None
    with HOST.stream(urgent=True) as stream:
        assert stream is None

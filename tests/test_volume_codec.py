from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mindsight.errors import BadVolume
from mindsight.volume import Volume
from mindsight.volume_bounds import MAX_TR_S, MIN_TR_S
from mindsight.volume_codec import decode_volume, encode_volume
from mindsight.volume_header import MAGIC, read_header

DTYPES = ["<i1", "<u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8", ">i2", ">u2", ">i4", ">f4", ">f8"]
AFFINE = np.array([[-3.0, 0.1, 0, 90], [0, 2.9, 0.2, -126], [0.1, -0.3, 3.1, -72], [0, 0, 0, 1]])

clocks = st.none() | st.floats(0, 2e9)


def make(**changes: Any) -> Volume:
    data = np.arange(4 * 3 * 2, dtype=np.int16).reshape(4, 3, 2)
    return Volume(**({"data": data, "affine": AFFINE, "tr_s": 1.97, "run": 2, "index": 7} | changes))


def with_header(**changes: Any) -> bytes:
    """The payload of ``make()`` with other values in its header, valid in everything else."""
    payload = encode_volume(make())
    header = read_header(payload)
    fields = json.loads(payload[8 : header.offset]) | changes
    text = json.dumps(fields).encode()
    text += b" " * (-(8 + len(text)) % 16)
    return MAGIC + struct.pack("<I", len(text)) + text + payload[header.offset :]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_volume_comes_back_as_it_was(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    array = data.draw(hnp.arrays(dtype, shape))
    array = data.draw(st.sampled_from([np.asfortranarray, np.ascontiguousarray, lambda a: a[::-1]]))(array)
    times = data.draw(st.none() | hnp.arrays(np.float64, shape[2], elements=st.floats(0, 60)))
    volume = Volume(
        data=array,
        affine=AFFINE,
        tr_s=data.draw(st.floats(MIN_TR_S, MAX_TR_S, exclude_max=True)),
        run=data.draw(st.integers(1, 99)),
        index=data.draw(st.integers(0, 9999)),
        acquired_s=data.draw(clocks),
        arrived_s=data.draw(clocks),
        trigger_s=data.draw(clocks),
        slice_times_s=times,
        motion_6=data.draw(st.none() | st.tuples(*[st.floats(-100, 100)] * 6)),
    )

    payload = encode_volume(volume)
    back = decode_volume(payload)

    assert back.data.dtype == dtype.newbyteorder("<")
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_array_equal(back.affine, volume.affine)
    for name in ("tr_s", "run", "index", "acquired_s", "arrived_s", "trigger_s", "motion_6"):
        assert getattr(back, name) == getattr(volume, name)
    if times is None:
        assert back.slice_times_s is None
    else:
        np.testing.assert_array_equal(back.slice_times_s, times)
    assert encode_volume(back) == payload


def test_the_layout_is_the_documented_one() -> None:
    payload = encode_volume(make())
    (length,) = struct.unpack("<I", payload[4:8])
    assert payload[:4] == b"MSV1"
    assert json.loads(payload[8 : 8 + length])["shape"] == [4, 3, 2]
    assert (8 + length) % 16 == 0
    x_fastest = [int(make().data[x, y, z]) for z in range(2) for y in range(3) for x in range(4)]
    assert payload[8 + length :] == struct.pack("<24h", *x_fastest)


def test_the_header_reads_without_the_data() -> None:
    payload = encode_volume(make(acquired_s=12.5))
    offset = read_header(payload).offset
    header = read_header(payload[:offset])
    assert (header.shape, header.dtype, header.run, header.index) == ((4, 3, 2), "<i2", 2, 7)
    assert header.acquired_s == 12.5
    assert (header.data_bytes, header.total_bytes) == (48, len(payload))


def test_decoding_copies_nothing_and_cannot_be_written_to() -> None:
    payload = bytearray(encode_volume(make()))
    volume = decode_volume(payload)
    payload[-2:] = b"\x07\x00"
    assert volume.data[-1, -1, -1] == 7
    assert not volume.data.flags.writeable
    assert volume.data.flags.aligned


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"shape": [4, 3]}, "volume.payload_header"),
        ({"shape": [4, 3, 0]}, "volume.payload_header"),
        ({"shape": [4, 3, -2]}, "volume.payload_header"),
        ({"shape": [4, 3, 513]}, "volume.payload_header"),
        ({"shape": [4, 3, True]}, "volume.payload_header"),
        ({"shape": [512, 512, 512]}, "volume.shape"),
        ({"shape": [4, 3, 3]}, "volume.payload_truncated"),
        ({"shape": [4, 3, 1]}, "volume.payload_trailing"),
        ({"dtype": "<f8"}, "volume.payload_truncated"),
        ({"dtype": "|O"}, "volume.payload_dtype"),
        ({"dtype": ">i2"}, "volume.payload_dtype"),
        ({"dtype": ["<i2"]}, "volume.payload_dtype"),
        ({"affine": np.zeros((4, 4)).tolist()}, "volume.affine"),
        ({"affine": [[1, 0, 0, 0]]}, "volume.payload_header"),
        ({"affine": [[10**400] * 4] * 4}, "volume.payload_header"),
        ({"affine": [["1"] * 4] * 4}, "volume.payload_header"),
        ({"tr_s": 0}, "volume.tr"),
        ({"tr_s": "2"}, "volume.payload_header"),
        ({"tr_s": float("nan")}, "volume.payload_header"),
        ({"run": 0}, "volume.index"),
        ({"run": 1.5}, "volume.payload_header"),
        ({"index": -1}, "volume.index"),
        ({"index": None}, "volume.payload_header"),
        ({"acquired_s": "noon"}, "volume.payload_header"),
        ({"acquired_s": float("inf")}, "volume.payload_header"),
        ({"slice_times_s": [0.0]}, "volume.payload_header"),
        ({"slice_times_s": [0.0, None]}, "volume.payload_header"),
        ({"patient": "Doe"}, "volume.payload_header"),
    ],
)
def test_a_wrong_header_is_a_bad_volume(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(BadVolume) as caught:
        decode_volume(with_header(**changes))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"MSV1",
        b"MSV2" + b"\0" * 60,
        MAGIC + b"\xff\xff\xff\xff" + b"{}",
        MAGIC + struct.pack("<I", 8) + b"[[[[[[[[",
        MAGIC + struct.pack("<I", 60_008) + b"[" * 60_008,
        MAGIC + struct.pack("<I", 8) + b"\xff" * 8,
        MAGIC + struct.pack("<I", 8) + b"[1]     ",
        MAGIC + struct.pack("<I", 7) + b"[1]    ",
    ],
    ids=range(9),
)
def test_what_is_no_payload_is_a_bad_volume(payload: bytes) -> None:
    with pytest.raises(BadVolume):
        decode_volume(payload)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_payload_is_a_volume_or_a_bad_volume(data: st.DataObject) -> None:
    payload = bytearray(encode_volume(make(slice_times_s=np.array([0.0, 0.5]))))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    del payload[data.draw(st.integers(1, 2 * len(payload))) :]
    with contextlib.suppress(BadVolume):
        assert decode_volume(payload).data.ndim == 3


@pytest.mark.parametrize("changes", [{"data": np.zeros((2, 2, 2), np.float16)}, {"acquired_s": float("nan")}])
def test_what_the_format_cannot_hold_is_not_encoded(changes: dict[str, Any]) -> None:
    with pytest.raises(BadVolume):
        encode_volume(make(**changes))


@pytest.mark.parametrize("motion", [None, [0.0] * 5, [0.0] * 7, [0.0] * 5 + ["x"], "0 0 0 0 0 0", [0.0] * 5 + [True]])
def test_motion_that_is_not_six_numbers_is_refused(motion: object) -> None:
    assert encode_volume(make()) == encode_volume(make(motion_6=None)), "others keep the bytes that they had"
    with pytest.raises(BadVolume) as caught:
        read_header(with_header(motion_6=motion))
    assert caught.value.code == "volume.payload_header"


@pytest.mark.parametrize("motion", [(0.0,) * 5, (*(0.0,) * 5, float("nan")), (*(0.0,) * 5, float("inf"))])
def test_a_volumes_motion_is_six_finite_numbers(motion: tuple[float, ...]) -> None:
    with pytest.raises(BadVolume) as caught:
        make(motion_6=motion)
    assert caught.value.code == "volume.motion"


IMPOSSIBLE = {
    "voxels of a kilometre": np.diag([1e6, 2.0, 2.0, 1.0]),
    "voxels of a nanometre": np.diag([1e-6, 2.0, 2.0, 1.0]),
    "far away": np.array([[2.0, 0, 0, 1e160], [0, 2.0, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1.0]]),
    "flat": np.array([[2.0, 2.0, 0, 0], [0, 0.01, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1.0]]),
    "no affine map": np.array([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0], [0, 0, 1.0, 1.0]]),
    "infinite": np.diag([np.inf, 2.0, 2.0, 1.0]),
}


@pytest.mark.parametrize("affine", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_place_that_no_scanner_has_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(BadVolume) as refused:
        Volume(np.zeros((4, 4, 4), np.int16), affine, 2.0, 1, 0)
    assert refused.value.code == "volume.affine"


def test_oblique_and_coarse_voxels_are_a_scanners() -> None:
    angle = np.deg2rad(40.0)
    oblique = np.eye(4)
    oblique[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique[:3, :3] *= [0.8, 0.8, 60.0]  # a localiser's slices
    oblique[:3, 3] = [-900.0, 300.0, 20.0]
    assert Volume(np.zeros((4, 4, 4), np.int16), oblique, 2.0, 1, 0).voxel_mm == pytest.approx([0.8, 0.8, 60.0])

"""MRD images over TCP: a sender written from the protocol, the library's own serialiser, and hostile peers."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindsight.errors import BadVolume
from mindsight.scanner.transports import Expected, Timeouts, mrd_headers
from mindsight.scanner.transports.mrd import parse_measurement
from mindsight.scanner.transports.mrd_receiver import MrdReceiver
from support.mrd_sender import HEADER, MIDDAY_TICKS, Sender, image, meta, xml
from support.taking import CLOCK, codes, ends, places, take, until_volumes, until_warning, volumes, warnings_in

QUICK = Timeouts(idle_s=5.0, late_s=0.3, stall_s=1.0)
X, Y, Z = 6, 5, 4


def receiver(**options: Any) -> MrdReceiver:
    return MrdReceiver(port=0, clock=CLOCK, **{"timeouts": QUICK, **options})


def values(repetition: int, dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(repetition).integers(0, 900, (Z, Y, X)).astype(dtype)


def slices(repetition: int, order: Any = range(Z), **options: Any) -> list[bytes]:
    """Of one volume, in this order, each 100 ms after the other."""
    return [
        image(
            values(repetition)[k : k + 1],
            repetition=repetition,
            slice_=k,
            position=(0.0, 0.0, 3.5 * k),
            **{"stamp": MIDDAY_TICKS + 600 * repetition + 40 * at, **options},
        )
        for at, k in enumerate(order)
    ]


def test_the_header_is_as_long_as_the_protocol_has_it() -> None:
    assert HEADER.size == mrd_headers.HEADER_BYTES == 198


@pytest.mark.parametrize("name", ["ImageHeader", "WaveformHeader"])
def test_the_headers_are_laid_out_as_the_library_has_them(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ismrmrd
    ours, theirs = getattr(mrd_headers, name), getattr(ismrmrd, name)

    def layout(structure: Any) -> list[tuple[str, int, int]]:
        places = [(field, getattr(structure, field)) for field, _ in structure._fields_]
        return [(field, place.offset, place.size) for field, place in places]

    assert layout(ours) == layout(theirs)


@pytest.mark.parametrize("order", [range(Z), (0, 2, 1, 3), (3, 2, 1, 0)])
def test_slices_are_volumes_with_their_place_and_times(order: Any) -> None:
    sent = [message for repetition in range(3) for message in slices(repetition, order)]
    with receiver() as transport, Sender(transport.address) as sender:
        sender.begin(xml(Z))
        for message in sent:
            sender.send(message)
        back = sender.end()
        items = take(transport, lambda items: bool(ends(items)))
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert warnings_in(items) == []
    assert [end.n_volumes for end in ends(items)] == [3]
    assert back == b"".join(sent) + struct.pack("<H", 4)  # as they came, and that it is over
    for volume in volumes(items):
        np.testing.assert_array_equal(volume.data.T, values(volume.index)[:, ::-1])
        assert volume.tr_s == 1.5
        assert volume.acquired_s == pytest.approx(12 * 3600 + 1.5 * volume.index)
        assert volume.slice_times_s is not None
        np.testing.assert_allclose(volume.slice_times_s, [0.1 * list(order).index(k) for k in range(Z)])
        # The centre of the first slice is at the origin: its corner is half a field of view away, +x to the right.
        np.testing.assert_allclose(np.diag(volume.affine)[:3], [-3.0, 3.0, 3.5])
        np.testing.assert_allclose(volume.affine[:3, 3], [7.5, -6.0, 0.0])


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64", "complex64"])
def test_a_whole_volume_in_an_image(dtype: str) -> None:
    with receiver() as transport, Sender(transport.address) as sender:
        sender.begin(xml(1))
        for repetition in range(2):
            data = values(repetition).astype(dtype) * (-1 if dtype == "complex64" else 1)
            sender.send(image(data, repetition=repetition, position=(10.0, -20.0, 30.0), kind=5 if "c" in dtype else 1))
        items = take(transport, until_volumes(2))
    assert places(items) == [(1, 0), (1, 1)]
    volume = volumes(items)[1]
    np.testing.assert_array_equal(volume.data.T, values(1)[:, ::-1])
    centre = volume.affine @ [(X - 1) / 2, (Y - 1) / 2, (Z - 1) / 2, 1.0]
    np.testing.assert_allclose(centre[:3], [-10.0, 20.0, 30.0])


def test_an_oblique_image_lies_where_its_attributes_state() -> None:
    """It was turned into DICOM's orientation since: read and phase are those of the acquisition."""
    row, column = (0.0, 1.0, 0.0), (0.0, 0.6, -0.8)
    column = tuple(np.cross((1.0, 0.0, 0.0), row))  # down the picture
    attributes = meta(ImageRowDir=row, ImageColumnDir=column, DicomJson="Doe", SeriesDescription="Doe^John")
    with receiver() as transport, Sender(transport.address) as sender:
        sender.begin(xml(1))
        for repetition in range(2):
            normal = tuple(np.cross(row, column))
            sender.send(image(values(repetition), repetition=repetition, through=normal, attributes=attributes))
        items = take(transport, until_volumes(2))
    affine = volumes(items)[0].affine
    np.testing.assert_allclose(affine[:3, 0], np.array(row) * 3.0 * [-1, -1, 1], atol=1e-6)
    np.testing.assert_allclose(affine[:3, 1], np.array(column) * -3.0 * [-1, -1, 1], atol=1e-6)
    assert "Doe" not in repr(items)


def test_an_excitation_of_several_slices_whose_header_counts_excitations() -> None:
    with receiver() as transport, Sender(transport.address) as sender:
        sender.begin(xml(Z // 2, multiband=2))
        for repetition in range(3):
            for message in slices(repetition, (0, 2, 1, 3)):
                sender.send(message)
        sender.end()
        items = take(transport, lambda items: bool(ends(items)))
    assert [volume.shape for volume in volumes(items)] == [(X, Y, Z)] * 3
    assert warnings_in(items) == []


def test_repetitions_that_are_not_counted_are_recognised_by_slices_that_come_again() -> None:
    with receiver() as transport, Sender(transport.address) as sender:
        sender.begin(xml(Z))
        for repetition in range(3):
            for k in range(Z):
                sender.send(image(values(repetition)[k : k + 1], slice_=k, position=(0.0, 0.0, 3.5 * k)))
        sender.end()
        items = take(transport, lambda items: bool(ends(items)))
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    np.testing.assert_array_equal(volumes(items)[2].data.T, values(2)[:, ::-1])


def test_echoes_are_distinguished_and_the_first_is_the_run() -> None:
    with receiver() as transport, Sender(transport.address) as sender:
        sender.begin(xml(Z, echoes_ms=(12.0, 30.0)))
        for repetition in range(4):
            for contrast in (0, 1):
                for message in slices(repetition, contrast=contrast):
                    sender.send(message)
        sender.end()
        items = take(transport, lambda items: bool(ends(items)))
    assert places(items) == [(1, k) for k in range(4)]


def test_phases_corrected_images_and_navigators_are_left_out() -> None:
    with receiver() as transport, Sender(transport.address) as sender:
        sender.begin(xml(Z))
        for repetition in range(3):
            for message in (
                *slices(repetition, kind=2),
                *slices(repetition, attributes=meta(ImageType=["ORIGINAL", "MOCO"]), series=2),
                *slices(repetition, flags=1),
                *slices(repetition),
            ):
                sender.send(message)
        sender.end()
        items = take(transport, lambda items: bool(ends(items)))
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert set(codes(items)) == {"series.ignored"}


def test_values_are_scaled_and_a_missing_slice_is_a_missing_volume() -> None:
    scaled = meta(RescaleSlope=2.0, RescaleIntercept=-1.0)
    with receiver() as transport, Sender(transport.address) as sender:
        sender.begin(xml(Z))
        for repetition in range(4):
            for message in slices(repetition, (0, 1, 2) if repetition == 1 else range(Z), attributes=scaled):
                sender.send(message)
        sender.end()
        items = take(transport, lambda items: bool(ends(items)))
    assert places(items) == [(1, 0), (1, 2), (1, 3)]
    assert sorted(codes(items)) == ["volume.incomplete", "volume.missing"]
    np.testing.assert_array_equal(volumes(items)[1].data.T, 2.0 * values(2)[:, ::-1] - 1.0)


def library_header(xsd: Any) -> Any:
    limits = xsd.encodingLimitsType(slice=xsd.limitType(minimum=0, maximum=Z - 1, center=0))
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=X, y=Y, z=1), fieldOfView_mm=xsd.fieldOfViewMm(x=18.0, y=15.0, z=3.5)
    )
    encoding = xsd.encodingType(
        encodedSpace=space, reconSpace=space, encodingLimits=limits, trajectory=xsd.trajectoryType("epi")
    )
    return xsd.ismrmrdHeader(
        subjectInformation=xsd.subjectInformationType(patientName="Doe^John"),
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=123_200_000),
        encoding=[encoding],
        sequenceParameters=xsd.sequenceParametersType(TR=[1500.0], TE=[30.0]),
    )


def test_what_the_library_serialises_is_read_and_what_goes_back_the_library_reads() -> None:
    with warnings.catch_warnings():
        import ismrmrd
    sent = io.BytesIO()
    serializer = ismrmrd.ProtocolSerializer(sent)
    serializer.serialize(ismrmrd.ConfigText("<configuration/>"))
    serializer.serialize(library_header(ismrmrd.xsd))
    for repetition in range(2):
        for k in range(Z):
            one = ismrmrd.Image.from_array(values(repetition)[k : k + 1], transpose=False)
            one.repetition, one.slice, one.image_type = repetition, k, ismrmrd.IMTYPE_MAGNITUDE
            one.position, one.field_of_view = (0.0, 0.0, 3.5 * k), (3.0 * X, 3.0 * Y, 3.5)
            one.read_dir, one.phase_dir, one.slice_dir = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
            one.meta = {"ImageType": ["ORIGINAL", "PRIMARY"], "PatientName": "Doe^John"}
            serializer.serialize(one)
    serializer.close()
    with receiver() as transport, Sender(transport.address) as sender:
        sender.send(sent.getvalue()[:-2])
        back = sender.end()
        items = take(transport, lambda items: bool(ends(items)))
    assert places(items) == [(1, 0), (1, 1)]
    np.testing.assert_array_equal(volumes(items)[1].data.T, values(1)[:, ::-1])
    returned = list(ismrmrd.ProtocolDeserializer(io.BytesIO(back)).deserialize())
    assert len(returned) == 2 * Z
    np.testing.assert_array_equal(returned[-1].data[0, 0], values(1)[Z - 1])
    assert "Doe" not in repr(items)


def test_by_choice_nothing_goes_back() -> None:
    with receiver(returns_images=False) as transport, Sender(transport.address) as sender:
        sender.begin(xml(Z))
        for message in (*slices(0), *slices(1)):
            sender.send(message)
        assert sender.end() == struct.pack("<H", 4)
        assert places(take(transport, until_volumes(2))) == [(1, 0), (1, 1)]


def test_a_scanner_that_does_not_take_them_back_holds_nothing_up() -> None:
    large = np.zeros((64, 256, 256), np.int16)
    with (
        receiver(timeouts=Timeouts(idle_s=5.0, stall_s=0.3)) as transport,
        socket.create_connection(transport.address, timeout=20) as peer,
    ):
        peer.sendall(struct.pack("<HI", 3, len(xml(1))) + xml(1))
        for repetition in range(3):
            peer.sendall(image(large, repetition=repetition))
        items = take(transport, until_volumes(3))
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert codes(items).count("mrd.return") == 1


def test_an_image_that_is_none_is_reported_and_the_next_is_read() -> None:
    flat = image(values(1)[:1], repetition=1, mm=(float("nan"), 3.0, 3.5))
    coils = image(np.zeros((2, Z, Y, X), np.int16), channels=2, repetition=9, series=3)
    broken = image(values(1)[:1], repetition=1, attributes=b"<ismrmrdMeta><meta>")
    with receiver() as transport, Sender(transport.address) as sender:
        sender.begin(xml(Z))
        for message in (*slices(0), flat, coils, broken, *slices(1)):
            sender.send(message)
        items = take(transport, until_volumes(2))
    assert places(items) == [(1, 0), (1, 1)]
    assert codes(items) == ["mrd.header", "mrd.channels", "mrd.header"]
    assert warnings_in(items)[0].text.startswith("image 5: ")


RAW = struct.pack("<H", 1008) + bytes(340)
HOSTILE = [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "mrd.header"),
    (RAW, "mrd.raw"),
    (struct.pack("<HI", 3, 2**31), "peer.too_large"),
    (struct.pack("<HI", 3, 5) + b"<a>\0\0", "mrd.header"),
    (struct.pack("<HI", 3, 40) + b'<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>'[:40], "mrd.header"),
    (struct.pack("<H", 1022) + bytes(198), "mrd.header"),
    (struct.pack("<H", 1022) + struct.pack("<HHQI3H", 1, 5, 0, 1, 65535, 65535, 65535) + bytes(176), "mrd.header"),
    (image(values(0))[:200] + struct.pack("<Q", 2**62), "peer.too_large"),
    (image(values(0))[:-5], "peer.truncated"),
    (struct.pack("<H", 1026) + b"\xff" * 40, "peer.too_large"),
]


@pytest.mark.parametrize(("sent", "code"), HOSTILE)
def test_hostile_bytes_end_their_own_connection(sent: bytes, code: str) -> None:
    with receiver() as transport:
        with socket.create_connection(transport.address, timeout=10) as peer, contextlib.suppress(OSError):
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass
        with Sender(transport.address) as sender:
            sender.begin(xml(Z))
            for message in (*slices(0), *slices(1)):
                sender.send(message)
            items = take(transport, until_volumes(2))
    assert places(items) == [(1, 0), (1, 1)]
    assert code in codes(items)


@pytest.fixture(scope="module")
def listening() -> Iterator[MrdReceiver]:
    with MrdReceiver(port=0, clock=CLOCK, timeouts=Timeouts(idle_s=5.0, stall_s=0.2)) as transport:
        yield transport


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.data())
def test_a_mutated_conversation_ends(cuts: st.DataObject, listening: MrdReceiver) -> None:
    sent = bytearray(struct.pack("<HI", 3, len(xml(Z))) + xml(Z) + b"".join(slices(0)))
    for _ in range(cuts.draw(st.integers(1, 6))):
        sent[cuts.draw(st.integers(0, len(sent) - 1))] = cuts.draw(st.integers(0, 255))
    with socket.create_connection(listening.address, timeout=10) as peer, contextlib.suppress(OSError):
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass


@pytest.mark.parametrize("tr_ms", ["", "nan", "-5", "0", "1e9", "x"])
def test_a_repetition_time_that_cannot_be_is_none(tr_ms: str) -> None:
    assert parse_measurement(xml(Z).replace(b"1500.0", tr_ms.encode())).tr_s is None


@pytest.mark.parametrize("tr", [b"", b"<TR>9</TR>"])
@pytest.mark.parametrize(
    ("expected", "stamp", "n"), [(Expected(), None, 3), (Expected(tr_s=1.5), None, 3), (Expected(), 7, 0)]
)
def test_a_measurement_without_a_repetition_time_needs_a_clock_or_a_person(
    tr: bytes, expected: Expected, stamp: int | None, n: int
) -> None:
    header = xml(Z).replace(b"<TR>1500.0</TR>", tr)
    stamped: dict[str, Any] = {} if stamp is None else {"stamp": stamp}
    with receiver(expected=expected) as transport, Sender(transport.address) as sender:
        sender.begin(header)
        for message in (message for k in range(3) for message in slices(k, **stamped)):
            sender.send(message)
        items = take(transport, until_volumes(3) if n else until_warning("volume.tr"))
    assert [volume.tr_s for volume in volumes(items)] == [pytest.approx(1.5)] * n
    assert n or [warning.lost for warning in warnings_in(items) if warning.code == "volume.tr"] == [True]


def test_xml_with_entities_is_never_unfolded() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;">]><ismrmrdHeader>&c;</ismrmrdHeader>'
    for text in (bomb, bomb.decode().encode("utf-16")):
        with pytest.raises(BadVolume) as caught:
            parse_measurement(text)
        assert caught.value.code == "mrd.header"

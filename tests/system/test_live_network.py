"""Real runs that are sent over the network while ``mindsight stream`` listens, through the whole service."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import EnhancedMRImageStorage  # type: ignore[attr-defined]  # made at import

from mindsight.protocol import Message, RunEnded, VolumeProcessed, VolumeReceived
from mindsight.scanner import read_series
from mindsight.volume import Volume
from support.dcmtk import storescu
from support.live import Service, StreamProcess, same
from support.ports import free_port
from support.senders import Dimon, murfi_volume


@pytest.fixture(scope="module")
def run155(shared: Path) -> list[Volume]:
    return list(read_series(shared / "data" / "trio_run155" / "dcm"))


@pytest.fixture(scope="module")
def xa30(shared: Path) -> list[Volume]:
    return list(read_series(shared / "data" / "siemens_xa30_enhanced"))


def has_received(run: int, n: int) -> Callable[[list[Message]], bool]:
    return lambda messages: sum(isinstance(m, VolumeReceived) and m.run == run for m in messages) >= n


def has_processed(n: int) -> Callable[[list[Message]], bool]:
    return lambda messages: sum(isinstance(m, VolumeProcessed) for m in messages) >= n


def ends(messages: list[Message]) -> list[tuple[int, int, int]]:
    return [(m.run, m.n_volumes, m.n_missing) for m in messages if isinstance(m, RunEnded)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n"),
    [("siemens_xa30_enhanced", 20), ("philips_elition_slices8", 8)],
)
def test_storescu_sends_a_folder(service: Service, shared: Path, name: str, n: int) -> None:
    """Siemens' enhanced objects of a volume each, and 504 of Philips' slices, time fastest, as dcmtk sends them."""
    program = storescu()
    folder = shared / "data" / name
    session, port = service.open_session(), free_port()
    with StreamProcess(service, session, f"cstore://127.0.0.1:{port}?calling=CONSOLE&late=5") as stream:
        stranger = subprocess.run(
            [program, "127.0.0.1", str(port), str(next(folder.iterdir()))], capture_output=True, timeout=60
        )
        assert stranger.returncode != 0
        command = [
            program,
            "--aetitle",
            "CONSOLE",
            "--call",
            "MINDSIGHT",
            "--scan-directories",
            "127.0.0.1",
            str(port),
        ]
        sent = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60)
        assert sent.returncode == 0, sent.stderr
        service.wait(session, has_received(1, n))
        stream.stop()
    same(service.arrived(session)[1], read_series(folder))
    messages = service.wait(session, has_processed(n))
    assert ends(messages) == [(1, n, 0)]
    assert service.missing(session) == []
    (turned_away,) = stream.errors  # the stranger
    assert "peer.called" in turned_away


@pytest.mark.parametrize("n", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_pynetdicom_sends_enhanced_objects_in_any_order(
    service: Service, shared: Path, xa30: list[Volume], n: int
) -> None:
    """The same without dcmtk, several at once over two associations, one object twice."""
    folder = shared / "data" / "siemens_xa30_enhanced"
    datasets = [pydicom.dcmread(path) for path in sorted(folder.iterdir())[:n]]
    random.Random(2).shuffle(datasets)
    session, port = service.open_session(), free_port()
    with StreamProcess(service, session, f"cstore://127.0.0.1:{port}?late=5") as stream:
        ae = AE("CONSOLE")
        ae.add_requested_context(EnhancedMRImageStorage)
        associations = [ae.associate("127.0.0.1", port, ae_title="MINDSIGHT") for _ in range(2)]
        for k, dataset in enumerate([*datasets, datasets[3]]):
            assert associations[k % 2].send_c_store(dataset).Status == 0x0000
        for association in associations:
            association.release()
        service.wait(session, has_received(1, n))
        stream.stop()
    same(service.arrived(session)[1], xa30[:n])
    assert service.missing(session) == []
    assert [code for code, _ in service.warnings(session)].count("volume.doubled") == 1


def shorts(volumes: list[Volume]) -> list[Volume]:
    """As protocols that know signed 16 bits only carry them: the same bytes."""
    assert max(int(volume.data.max()) for volume in volumes) < 2**15
    return [
        Volume(np.asarray(v.data, np.int16), v.affine, v.tr_s, v.run, v.index, acquired_s=v.acquired_s) for v in volumes
    ]


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 155])
def test_dimon_sends_a_run_and_another_and_one_more(
    service: Service, run155: list[Volume], tmp_path: Path, n: int
) -> None:
    """Slice by slice; a second run after the mark on the same connection, a third over a new one; nothing is run."""
    truth, affine = shorts(run155[:n]), run155[0].affine
    arrays = [volume.data for volume in truth]
    control, data = free_port(), free_port()
    ran = tmp_path / "ran"
    info = f"touch {ran}"
    session = service.open_session()
    with StreamProcess(service, session, f"afni://127.0.0.1:{control}?data={data}") as stream:
        with socket.create_connection(("127.0.0.1", data)) as stray, contextlib.suppress(ConnectionError):
            stray.sendall(b"GET / HTTP/1.1\r\n\r\n\0")
            while stray.recv(1024):
                pass
        with Dimon("127.0.0.1", control, data, info) as sender:
            sender.run(arrays, affine, 1.97)
            sender.end_of_run(arrays[0])
            sender.run(arrays[20:26], affine, 1.97)
        stream.until("run 2 has ended")
        with Dimon("127.0.0.1", control, data, info) as sender:
            sender.run(arrays[3:7], affine, 1.97)
        stream.until("run 3 has ended")
        stream.stop()
    messages = service.wait(session, has_processed(n + 10))
    assert ends(messages) == [(1, n, 0), (2, 6, 0), (3, 4, 0)]
    for run, there in service.arrived(session).items():
        want = {1: truth, 2: truth[20:26], 3: truth[3:7]}[run]
        for k, (volume, true) in enumerate(zip(there, want, strict=True)):
            assert volume.index == k
            assert volume.data.tobytes(order="F") == true.data.tobytes(order="F")
            assert np.array_equal(volume.affine, affine)
            assert volume.tr_s == 1.97
    assert not ran.exists()
    assert not list(tmp_path.rglob("DRIVEN"))
    assert [code for code, _ in service.warnings(session)].count("afni.header") == 1  # the stray connection
    assert "SEED" not in repr((messages, stream.lines, stream.errors))


@pytest.mark.parametrize("n", [90, pytest.param(155, marks=pytest.mark.slow)])
def test_siemens_image_sender_sends_a_run(service: Service, run155: list[Volume], n: int) -> None:
    """A connection per volume, a few early, with and without sizes before; each TR raw and corrected by the scanner."""
    truth, affine = shorts(run155[:n]), run155[0].affine
    session, port = service.open_session(), free_port()
    order = list(range(n))
    order[40], order[41], order[80], order[83] = order[41], order[40], order[83], order[80]
    with StreamProcess(service, session, f"murfi://127.0.0.1:{port}?n={n}&late=5") as stream:
        for k in order:
            for moco in (False, True) if k < 30 else (False,):
                murfi_volume(
                    port,
                    truth[k].data + 7 * moco,
                    affine,
                    1.97,
                    k + 1,
                    series="1.2.SEEDNAME",
                    moco=moco,
                    announced=k % 2 == 0,
                )
        stream.until("run 1 has ended")
        stream.stop()
    arrived = service.arrived(session)[1]
    assert [volume.index for volume in arrived] == list(range(n))
    for volume, true in zip(arrived, truth, strict=True):
        assert volume.data.tobytes(order="F") == true.data.tobytes(order="F")
        np.testing.assert_allclose(volume.affine, affine, rtol=1e-6, atol=1e-5)  # 32 bits on the wire
    messages = service.wait(session, has_processed(n))
    assert ends(messages) == [(1, n, 0)]
    assert [code for code, _ in service.warnings(session)] == ["series.ignored"]  # what the scanner had corrected
    assert "SEED" not in repr((messages, stream.lines, stream.errors))


def test_a_sender_that_comes_back_to_a_restarted_stream(service: Service, run155: list[Volume]) -> None:
    """The stream is killed while a run is sent volume by volume: only what was sent meanwhile is missing."""
    session, port = service.open_session(), free_port()
    source, truth, affine = f"murfi://127.0.0.1:{port}?late=0.5", shorts(run155), run155[0].affine

    def send(numbers: range, series: str) -> None:
        for k in numbers:
            murfi_volume(port, truth[k].data, affine, 1.97, k + 1, series=series, moco=False, announced=False)

    with StreamProcess(service, session, source) as stream:
        send(range(10), "1.2.3")
        service.wait(session, has_received(1, 10))
        stream.kill()
    with StreamProcess(service, session, source) as stream:
        send(range(13, 18), "1.2.3")
        stream.until("run 1 resumes at volume 10")
        service.wait(session, has_received(1, 15))
        stream.kill()
    with StreamProcess(service, session, source) as stream:  # the scanner starts another series
        send(range(4), "1.2.4")
        stream.until("run 2 has begun")
        service.wait(session, has_received(2, 4))
        stream.stop()
    arrived = service.arrived(session)
    assert [volume.index for volume in arrived[1]] == [*range(10), *range(13, 18)]
    assert [volume.index for volume in arrived[2]] == list(range(4))
    assert service.missing(session) == [(1, 10), (1, 11), (1, 12)]
    assert ends(service.messages(session)) == [(1, 15, 3), (2, 4, 0)]

"""Waiting for results, and what a notebook makes of a session; against a gateway, whose decoder is simulated."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest

from mindsight.bus import Bus, Log
from mindsight.client import AsyncSession, Console, Service, Session
from mindsight.errors import DeadlineExceeded, NotAllowed, NotFound
from mindsight.files.images import png_bytes
from mindsight.protocol import Result, SessionArchived, dump_message
from mindsight.volume import Volume
from support.answering import Answering, answering
from support.gateway_harness import Running


@pytest.fixture(scope="module")
def module_bus(running: Running) -> Iterator[Bus]:
    bus = Bus.from_settings(running.settings)
    yield bus
    bus.close()


@pytest.fixture(scope="module")
def console(running: Running) -> Iterator[Console]:
    """Of a session with run 1: three volumes, and trial 1."""
    with Console(running.url, running.keys["experimenter"], spool_dir=running.settings.data_dir / "spool") as console:
        console.open_session(console.enrol())
        console.start_run(1, task="view", tr_s=2.0, n_volumes=3)
        yield console


@pytest.fixture(scope="module")
def decoder(running: Running, module_bus: Bus, console: Console) -> Iterator[Answering]:
    with answering(running, module_bus, console.session) as decoder:
        shown = console.post_image(png_bytes(decoder.pixels[::-1].copy()))
        console.add_event(1, onset_s=1.0, duration_s=3.0, trial=1, stimulus=shown, candidate="scene-007", label="a dog")
        for index in range(3):
            data = np.full((4, 4, 2), 100 + index, np.int16)
            console.send(Volume(data, np.diag([3.0, 3, 3, 1]), 2.0, 1, index, acquired_s=2.0 * index))
        yield decoder


@pytest.fixture(scope="module")
def session(running: Running, console: Console, decoder: Answering) -> Iterator[Session]:
    with Session(running.url, running.keys["experimenter"], console.session) as session:
        yield session


def test_a_result_is_waited_for_and_its_lateness_reported(session: Session, console: Console) -> None:
    result = session.wait(1, stage="fast", deadline_s=20)
    assert (result.candidates[0].id, result.run) == ("scene-007", 1)
    assert session.wait(1, "final", 20) == session.latest(1, "final") == session.latest(1)
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="fast result of trial 2 within") as late:
        session.wait(2, deadline_s=0.2)
    assert late.value.code == "result.late"
    assert time.monotonic() - began_s < 5.0
    assert session.latest(2) is None
    console.add_event(1, onset_s=5.0, duration_s=3.0, trial=2)
    assert session.wait(2, deadline_s=20).trial == 2


def test_images_and_betas_are_arrays(session: Session, decoder: Answering) -> None:
    result = session.wait(1, "final", 20)
    image = result.candidates[0].image
    assert image is not None
    assert np.array_equal(session.image(image), decoder.pixels)
    assert np.array_equal(session.reconstruction(1, run=1), decoder.pixels)
    assert np.array_equal(session.beta(1), decoder.betas[1, 1, "final"])
    with pytest.raises(NotFound):
        session.vector("f" * 64)
    with pytest.raises(NotFound):
        session.vector(image)  # an image is no beta
    beta = session.beta_map(1)
    assert beta.shape == session.reference().shape == (4, 4, 2)
    assert np.isclose(beta.get_fdata().max(), 100.0 * 1.0 / 500.0)


def test_tables_have_a_row_for_each_result_event_and_volume(session: Session) -> None:
    session.wait(1, "final", 20)
    results = session.results()
    assert {(1, 1, "fast"), (1, 1, "final")} <= set(
        results[["run", "trial", "stage"]].itertuples(index=False, name=None)
    )
    assert set(results["candidate"]) >= {"scene-007"}
    assert results["reconstruction"].str.len().min() == 64
    assert session.events().iloc[0][["trial", "onset_s", "label"]].tolist() == [1, 1.0, "a dog"]
    until_s = time.monotonic() + 20
    while len(session.motion()) < 3 and time.monotonic() < until_s:
        time.sleep(0.05)
    motion = session.motion()
    assert motion["x_mm"].tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert motion["censored"].tolist() == [False, False, True]
    assert session.rois().empty


def test_figures_are_drawn(session: Session) -> None:
    mpl.use("agg")
    from matplotlib import pyplot

    session.wait(1, "final", 20)
    assert [axis.get_ylabel() for axis in session.plot_motion(1).axes][-1] == "framewise displacement, mm"
    assert session.plot_confidence().axes[0].get_ylim() == (0.0, 1.05)
    titles = [axis.get_title() for axis in session.plot_trial(1, run=1).axes]
    assert titles == ["shown\na dog", "reconstruction\nfinal", "a scene\n0.80", "other\n0.10"]
    pyplot.close("all")


def test_a_blinded_viewer_is_sent_results_and_nothing_that_was_shown(
    running: Running, console: Console, decoder: Answering
) -> None:
    with Session(running.url, running.keys["viewer"], console.session) as blinded:
        blinded.wait(1, deadline_s=20)
        events = blinded.events()
        assert events["label"].isna().all()
        assert events["stimulus"].isna().all()
    with Session(running.url, "ms_wrong", console.session) as refused, pytest.raises(NotAllowed):
        refused.wait(1, deadline_s=20)


def test_results_are_awaited(running: Running, console: Console, decoder: Answering) -> None:
    async def program() -> None:
        async with AsyncSession(running.url, running.keys["experimenter"], console.session) as session:
            result = await session.wait(1, "final", 20)
            image = result.candidates[0].image
            assert image is not None
            pixels, later = await asyncio.gather(session.image(image), session.wait(1, "fast", 20))
            assert np.array_equal(pixels, decoder.pixels)
            assert later.stage == "final"
            with pytest.raises(DeadlineExceeded):
                await session.wait(99, deadline_s=0.1)
            async for message in session.messages():
                if isinstance(message, Result):
                    break

    asyncio.run(program())


def test_a_session_that_is_over_never_makes_a_program_wait(running: Running, module_bus: Bus, console: Console) -> None:
    opened = Service(running.url, running.keys["experimenter"])
    over = opened.open_session(console.enrol())["session"]
    archived = SessionArchived(session=over, t=1.0, archive="archive/x", n_files=1)
    Log(module_bus, over, "messages").append("archived", dump_message(archived))
    with opened.enter(over) as session:
        with pytest.raises(NotFound, match="the session ended without"):
            session.wait(1, deadline_s=30)
        assert session.results().empty
    opened.close()


def test_the_base_install_needs_neither_pandas_nor_figures() -> None:
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pandas", "matplotlib", "nilearn", "nibabel", "torch", "PIL", "scipy"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from mindsight.client import AsyncSession, Session, tables, plots
from mindsight.errors import NotInstalled
for ask in (lambda: tables.frame(("a",), []), lambda: plots.plot_motion([]), lambda: plots.nifti(b"")):
    try:
        ask()
    except NotInstalled as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert [line.rpartition("pip install ")[2] for line in done.stdout.splitlines()] == [
        "pandas",
        "matplotlib",
        "nibabel",
    ]

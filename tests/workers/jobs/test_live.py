"""A subject is calibrated while it is scanned: its betas come from ingest's own code, and decoders from the job's."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest

from mindsight.errors import BadRequest
from mindsight.journal.declare import Recorder
from mindsight.journal.read import Journal
from mindsight.journal.sessions import Sessions
from mindsight.protocol import BundleChanged, Warned
from mindsight.protocol.inputs import AddEvent
from mindsight.subjects.bundle.folder import Bundle
from support.house import House
from support.live_visit import DEADLINE_S, Visit
from support.two_sides import SidesRun
from workers.jobs import followed as followed_module
from workers.jobs import live as live_module


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_module, "BLOCK_S", 0.02)


def test_each_run_is_decoded_by_the_runs_before_it(house: House) -> None:
    visit = Visit(house)
    visit.follow()
    visit.scan(SidesRun(1, noise=4.0))
    assert visit.work_of(1) == [], "there is nothing yet that could decode it"
    visit.until(1)
    runs = [SidesRun(n, noise=4.0) for n in (2, 3)]
    right, by = 0, []
    for run in runs:
        visit.scan(run)
        by.append({work.bundle for work in visit.work_of(run.run)})
        right += visit.right(run)
    print(f"{right} of 24 right, chance 12; decoded by {by}")
    assert right >= 18  # of 24 at chance 1/2: p = 0.011
    said = visit.end()
    assert isinstance(said, str), said
    assert "versions" in said
    session = Journal(house.bus, "ses-a")
    changes = [message for message in session.read_messages() if isinstance(message, BundleChanged)]
    assert [change.bundle for change in changes] == [version.bundle for version in visit.versions][: len(changes)]
    assert len(changes) >= 1
    assert not [message for message in session.read_messages() if isinstance(message, Warned)]
    bundle = Bundle.load(house.settings.bundles_dir / visit.versions[-1].bundle)
    assert (house.settings.bundles_dir / visit.versions[-1].bundle / "report" / "report.html").exists()
    assert bundle.space.n_voxels <= len(np.frombuffer(house.blobs.get(visit.work_of(3)[0].beta), "<f4"))


@pytest.mark.slow
def test_a_job_that_was_ended_makes_no_version_twice(house: House) -> None:
    visit = Visit(house)
    visit.scan(SidesRun(1))
    visit.follow()
    visit.until(1)
    before = visit.versions
    visit.follow()  # another process takes the job over; the first may not write any more
    visit.scan(SidesRun(2, labels=("left", "right", "both", "right") * 3))  # with it come more classes
    visit.until(2)
    assert visit.versions[: len(before)] == before
    assert any("knows 3 labels" in version.verdict for version in visit.versions)
    visit.ingest()
    visit.follow()  # and once more, when there is nothing left to do
    assert isinstance(visit.end(), str), visit.said
    assert len({version.source for version in visit.versions}) == len(visit.versions)


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        (("left",) * 12, "calibration.labels"),
        pytest.param(("left", "right"), "calibration.trials", marks=pytest.mark.slow),
        pytest.param((), "calibration.trials", marks=pytest.mark.slow),
    ],
)
def test_a_visit_that_never_has_enough_ends_with_what_is_needed(
    house: House, labels: tuple[str, ...], code: str
) -> None:
    visit = Visit(house)
    visit.follow()
    visit.scan(SidesRun(1, labels=labels))
    said = visit.end()
    assert isinstance(said, BadRequest), said
    assert said.code == code, said


def test_a_bundle_of_other_voxels_does_not_replace_one(house: House) -> None:
    from support.small_bundle import make_bundle

    visit = Visit(house)
    make_bundle().save(house.settings.bundles_dir / "other")
    visit.scan(SidesRun(1))
    Recorder(house.bus, "ses-a", time.time).set_bundle("other", "0" * 64, "of another brain")
    visit.scan(SidesRun(2))
    warned = [m for m in Journal(house.bus, "ses-a").read_messages() if isinstance(m, Warned)]
    assert [message.code for message in warned] == ["bundle.space"]
    assert visit.work_of(2) == []


@dataclass(frozen=True)
class EarlyRun(SidesRun):
    """Its responses come 4.5 s before those of the events that are declared."""

    def events(self) -> list[AddEvent]:
        return [event.model_copy(update={"onset_s": event.onset_s + 4.5}) for event in SidesRun.events(self)]


@pytest.mark.slow
def test_betas_are_estimated_again_as_the_whole_session_supports(house: House) -> None:
    visit = Visit(house)
    visit.follow()
    for number in (1, 2, 3):
        visit.scan(EarlyRun(number, noise=2.0))
        visit.until(1)
    said = visit.end(archives=True)
    assert isinstance(said, str), said
    *live, again = visit.versions
    assert [version.source for version in (*live, again) if "again" in version.source] == ["ses-a, estimated again"]
    options = Bundle.load(house.settings.bundles_dir / again.bundle).options
    assert options.event_lag_s in (-4.5, 3.0), "trials come every 8 s"
    assert again.measured is not None
    print(f"{live[-1].measured} -> {again.measured}: {again.verdict}")
    assert again.measured.accuracy >= 0.8
    assert Sessions(house.bus).get("ses-a").bundle != again.bundle, "its own session keeps its model"
    visit.follow()  # a job that was ended before it was done, and goes on
    assert visit.end_of_job() == said
    assert visit.versions == (*live, again)


@pytest.mark.slow
def test_a_silent_session_does_not_keep_its_calibration_for_ever(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "SILENCE_S", 0.3)
    visit = Visit(house)
    visit.scan(SidesRun(1))
    visit.follow()
    visit.until(1)
    until_s = time.monotonic() + DEADLINE_S
    while not visit.said and time.monotonic() < until_s:
        time.sleep(0.02)
    assert isinstance(visit.said, str)
    assert visit.said.endswith("silent for too long")


def test_a_pool_that_is_not_there_is_refused_at_once(house: House) -> None:
    visit = Visit(house, pool="none")
    visit.follow()
    said = visit.end()
    assert getattr(said, "code", "") == "pool.unknown", said

"""A pool from images that were uploaded, or from a folder of stimuli; what was stopped goes on."""

from __future__ import annotations

import time

import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Lease
from mindsight.errors import BadRequest, NotFound
from mindsight.journal.jobs import Jobs, log_name
from mindsight.protocol.jobs import JobNote, JobProgress, JobRecord, PoolImage, PoolTask
from mindsight.retrieval import CandidatePool
from support.archive_example import picture
from support.house import House
from workers.jobs.desk import Desk
from workers.jobs.pool import build


def desk_of(house: House, task: PoolTask) -> Desk:
    record = Jobs(house.bus, time.time).create(JobRecord(job=f"job-{task.pool}", task=task, created_t=1.0))
    lease = Lease.acquire(house.bus, log_name(record.job), "test", 60.0)
    assert lease is not None
    return Desk(house.settings, house.bus, record, lease)


def test_a_pool_of_uploaded_images(house: House) -> None:
    shown = BlobStore(house.settings.shown_dir)
    images = {f"scene.{i}": shown.put(picture(i)) for i in range(3)}
    images["broken"] = shown.put(picture(9)[:60])
    task = PoolTask(pool="scenes", images=tuple(PoolImage(id=id_, image=digest) for id_, digest in images.items()))
    desk = desk_of(house, task)
    assert build(desk, task).startswith("3 candidates")
    pool = CandidatePool.load(house.settings.pools_dir / "scenes")
    assert set(pool.ids) == {"scene.0", "scene.1", "scene.2"}
    messages = list(desk.jobs.messages(desk.record.job))
    assert any(isinstance(message, JobProgress) and message.done == message.n == 4 for message in messages)
    assert [m.code for m in messages if isinstance(m, JobNote)] == ["pool.image"], "an unreadable image is named"
    assert build(desk, task) == "the pool scenes is there", "what was published is not built again"


@pytest.mark.slow
def test_a_pool_of_a_folder_and_what_is_refused(house: House) -> None:
    folder = house.settings.stimuli_dir / "set-1"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(picture(1))
    task = PoolTask(pool="folder", folder="set-1")
    assert build(desk_of(house, task), task).startswith("1 candidates")
    missing = PoolTask(pool="missing", folder="set-2")
    with pytest.raises(NotFound, match="stimuli"):
        build(desk_of(house, missing), missing)
    text = PoolTask(pool="text", images=(PoolImage(id="a", image=BlobStore(house.settings.shown_dir).put(b"text")),))
    with pytest.raises(BadRequest, match="PNG"):
        build(desk_of(house, text), text)
    image = BlobStore(house.settings.shown_dir).put(picture(1))
    for name in ("../up", ".hidden", "a\\b"):
        bad = PoolTask(pool=f"bad{len(name)}", images=(PoolImage(id=name, image=image),))
        with pytest.raises(BadRequest, match="names of files"):
            build(desk_of(house, bad), bad)

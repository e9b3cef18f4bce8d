from __future__ import annotations

from pathlib import Path

import pytest

from mindsight.errors import BadRequest, NotFound, StorageFull
from mindsight.subjects.registry import Registry


def test_a_subject_is_a_random_name_that_outlives_the_process(tmp_path: Path) -> None:
    enrolled = [Registry(tmp_path).enrol(float(t), bundle="b" if t else None) for t in range(20)]
    assert len({subject.subject for subject in enrolled}) == 20
    assert Registry(tmp_path).list() == enrolled
    assert Registry(tmp_path).get(enrolled[3].subject) == enrolled[3]
    changed = Registry(tmp_path).set_bundle(enrolled[3].subject, "b2")
    assert Registry(tmp_path).get(changed.subject).bundle == "b2"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json"] * 20


@pytest.mark.parametrize("name", ["sub-abcdef", "", "../keys", "sub-abcdef/../x", "sub-ABCDEF", "sub-abcdef\n"])
def test_what_is_not_enrolled_is_not_found(tmp_path: Path, name: str) -> None:
    registry = Registry(tmp_path)
    with pytest.raises(NotFound):
        registry.get(name)
    with pytest.raises(NotFound):
        registry.set_bundle(name, "b")
    assert registry.list() == []


def test_a_name_that_was_taken_and_never_written_is_no_subject(tmp_path: Path) -> None:
    (tmp_path / "sub-abcdef.json").touch()
    with pytest.raises(NotFound):
        Registry(tmp_path).get("sub-abcdef")
    assert Registry(tmp_path).list() == []


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"subject":"sub-abcdef","enrolled_t":1.0,"of_tomorrow":1}'])
def test_a_damaged_subject_is_said_to_be_one_and_hides_no_other(tmp_path: Path, content: bytes) -> None:
    registry = Registry(tmp_path)
    other = registry.enrol(1.0)
    (tmp_path / "sub-abcdef.json").write_bytes(content)
    with pytest.raises(BadRequest, match=r"expected a subject in sub-abcdef.json, got a file that is damaged"):
        registry.get("sub-abcdef")
    assert registry.list() == [other]


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs Linux: no user can write to /sys")
def test_a_disk_that_cannot_be_written_is_said_to_be_one() -> None:
    with pytest.raises(StorageFull, match="check its mount") as refused:
        Registry(Path("/sys/subjects")).enrol(0.0)
    assert refused.value.code == "storage.closed"
    assert "/sys" not in str(refused.value)

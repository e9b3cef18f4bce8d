from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mindsight.errors import BadRequest, Conflict, NotFound
from mindsight.subjects.bundle.description import DESCRIPTION
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import KEPT, Version, Versions, VersionStore, name_of
from support.small_bundle import make_bundle


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "bundle"
    make_bundle().save(folder)
    return folder


class Held:
    """A subject and its versions; ``make`` saves the same small bundle again."""

    def __init__(self, root: Path, saved: Path) -> None:
        self.registry = Registry(root / "subjects")
        self.store = VersionStore(root / "subjects" / "versions", root / "bundles", self.registry)
        self.subject = self.registry.enrol(1.0).subject
        self._saved = saved

    def make(self, *, activate: bool = True) -> int:
        number, folder = self.store.next_folder(self.subject)
        shutil.copytree(self._saved, folder)
        digest = json.loads((folder / DESCRIPTION).read_text())["digest"]
        version = Version(number=number, bundle=folder.name, digest=digest, created_t=1.0)
        self.store.add(version, self.subject, activate=activate)
        return number

    def read(self) -> Versions:
        return self.store.read(self.subject)

    @property
    def active(self) -> str | None:
        return self.registry.get(self.subject).bundle


@pytest.fixture
def held(tmp_path: Path, saved: Path) -> Held:
    return Held(tmp_path, saved)


def test_versions_are_numbered_activated_and_rolled_back_in_order(held: Held) -> None:
    with pytest.raises(Conflict) as nothing:
        held.store.roll_back(held.subject)
    assert nothing.value.code == "version.first"
    assert [held.make(), held.make(activate=False), held.make()] == [1, 2, 3]
    assert (held.active, held.read().activated) == (name_of(held.subject, 3), (1, 3))
    assert held.store.roll_back(held.subject).bundle == name_of(held.subject, 1)
    held.store.activate(held.subject, 2)
    held.store.activate(held.subject, 2)
    assert (held.active, held.read().activated) == (name_of(held.subject, 2), (1, 2))
    assert held.store.roll_back(held.subject).bundle == name_of(held.subject, 1)


def test_a_version_that_is_not_what_was_made_is_not_activated(held: Held) -> None:
    held.make()
    held.make()
    path = held.store.bundles_dir / name_of(held.subject, 1) / DESCRIPTION
    other = json.loads(path.read_text()) | {"digest": "0" * 64}
    path.write_text(json.dumps(other))
    with pytest.raises(Exception, match=r"changed|another bundle"):
        held.store.roll_back(held.subject)
    shutil.rmtree(path.parent)
    with pytest.raises(Conflict) as gone:
        held.store.activate(held.subject, 1)
    assert gone.value.code == "version.removed"
    with pytest.raises(NotFound):
        held.store.activate(held.subject, 9)
    assert held.active == name_of(held.subject, 2)


def test_old_versions_are_removed_but_not_those_in_use(held: Held) -> None:
    for _ in range(KEPT + 4):
        held.make()
    in_use = {name_of(held.subject, 2)}
    assert [version.number for version in held.store.clear(held.subject, in_use)] == [1, 3, 4]
    there = {folder.name for folder in held.store.bundles_dir.iterdir()}
    assert there == {name_of(held.subject, n) for n in (2, 5, 6, 7, 8, 9)}
    assert [version.number for version in held.read().versions if version.removed] == [1, 3, 4]
    assert held.read().activated == (2, 5, 6, 7, 8, 9), "a rollback never leads to files that are gone"
    assert held.store.clear(held.subject, in_use) == []
    assert held.make() == KEPT + 5, "numbers are never used again"


def test_a_bundle_that_was_saved_and_never_listed_is_made_again(held: Held) -> None:
    number, folder = held.store.next_folder(held.subject)
    folder.mkdir(parents=True)
    assert held.store.next_folder(held.subject) == (number, folder)
    assert not folder.exists()


def test_an_erased_subject_leaves_no_version(held: Held) -> None:
    held.make()
    held.registry.erase(held.subject)
    held.store.erase(held.subject)
    assert list(held.store.bundles_dir.iterdir()) == list(held.store.root.iterdir()) == []
    with pytest.raises(NotFound):
        held.read()


def test_a_damaged_list_is_said_to_be_one(tmp_path: Path, saved: Path) -> None:
    held = Held(tmp_path, saved)
    held.make()
    (path,) = held.store.root.glob("*.json")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadRequest, match="expected versions of a bundle"):
        held.read()

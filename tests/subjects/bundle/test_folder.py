"""A bundle comes back as it was written, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.errors import Conflict, ModelMismatch
from mindsight.subjects.bundle.folder import Bundle
from support.small_bundle import make_bundle


def test_a_bundle_survives_its_folder(tmp_path: Path) -> None:
    made = make_bundle()
    loaded = made.save(tmp_path / "bundle")
    for name in ("kind", "subject", "created", "options", "calibration", "labels", "accuracy"):
        assert getattr(loaded, name) == getattr(made, name)
    np.testing.assert_array_equal(loaded.space.mask_XYZ, made.space.mask_XYZ)
    np.testing.assert_array_equal(loaded.space.reference.data, made.space.reference.data)
    np.testing.assert_array_equal(loaded.space.reference.affine, made.space.reference.affine)
    assert loaded.space.reference.tr_s == 2.5
    assert loaded.statistics.n == 24
    assert isinstance(loaded.decoder, LinearDecoder)
    assert isinstance(made.decoder, LinearDecoder)
    np.testing.assert_array_equal(loaded.decoder.weights_VD, made.decoder.weights_VD)
    assert loaded.pool_digest == made.pool_digest
    assert len(loaded.digest) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_what_is_known_of_the_voxels_comes_back(tmp_path: Path) -> None:
    plain = make_bundle()
    made = replace(
        plain, space=replace(plain.space, hrf_V=np.arange(12, dtype=np.uint8), noise_pool_V=np.arange(12) > 8)
    )
    loaded = made.save(tmp_path / "bundle")
    np.testing.assert_array_equal(loaded.space.hrf_V, np.arange(12))
    np.testing.assert_array_equal(loaded.space.noise_pool_V, np.arange(12) > 8)
    without = plain.save(tmp_path / "plain").space
    assert (without.hrf_V, without.noise_pool_V) == (None, None)


def test_equal_content_has_an_equal_digest(tmp_path: Path) -> None:
    assert make_bundle().save(tmp_path / "one").digest == make_bundle().save(tmp_path / "two").digest


def test_a_changed_byte_in_any_file_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    make_bundle().save(folder)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        file.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        with pytest.raises(ModelMismatch):
            Bundle.load(folder)
        file.unlink()
        with pytest.raises(ModelMismatch):
            Bundle.load(folder)
        file.write_bytes(whole)
    Bundle.load(folder)


def test_a_number_changed_in_the_description_is_found(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "bundle")
    file = tmp_path / "bundle" / "bundle.json"
    described = json.loads(file.read_text())
    described["calibration"]["temperature"] = 0.01
    file.write_text(json.dumps(described))
    with pytest.raises(ModelMismatch) as error:
        Bundle.load(tmp_path / "bundle")
    assert error.value.code == "bundle.tampered"


def test_an_added_file_is_found(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "bundle")
    (tmp_path / "bundle" / "pool" / "more.png").write_bytes(b"")
    with pytest.raises(ModelMismatch, match=r"more\.png"):
        Bundle.load(tmp_path / "bundle")


def test_another_version_reports_it(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "bundle")
    file = tmp_path / "bundle" / "bundle.json"
    file.write_text(file.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ModelMismatch) as error:
        Bundle.load(tmp_path / "bundle")
    assert error.value.code == "bundle.version"


def test_no_bundle_and_no_room_for_one(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch) as error:
        Bundle.load(tmp_path / "nowhere")
    assert error.value.code == "bundle.unreadable"
    make_bundle().save(tmp_path / "bundle")
    with pytest.raises(Conflict):
        make_bundle().save(tmp_path / "bundle")


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="12 voxels"):
        make_bundle(n_statistics=11).save(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()

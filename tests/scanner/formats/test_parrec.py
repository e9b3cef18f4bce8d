"""PAR/REC against nibabel's reader, over versions and orientations; then pairs that are not what they claim."""

from __future__ import annotations

import contextlib
import shutil
import traceback
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.parrec import PARRECArrayProxy, PARRECHeader

from mindsight.errors import BadVolume
from mindsight.scanner import open_series, read_series, read_volume
from mindsight.scanner.formats import par_header
from mindsight.volume_codec import encode_volume
from support.par_files import Pair, write_pair

VERSIONS = ["V4", "V4.1", "V4.2"]
TURNED = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def by_nibabel(par: Path, strict_sort: bool) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y, Z, T) floating-point values and affine, with y turned as our volumes have it."""
    with warnings.catch_warnings(), par.open() as text:
        warnings.simplefilter("ignore")
        header = PARRECHeader.from_fileobj(text, permit_truncated=True, strict_sort=strict_sort)
    with par.with_suffix(".REC" if par.suffix == ".PAR" else ".rec").open("rb") as rec:
        data = np.asarray(PARRECArrayProxy(rec, header, mmap=False, scaling="fp"))
    turn = TURNED.copy()
    turn[1, 3] = data.shape[1] - 1
    return (data[..., None] if data.ndim == 3 else data)[:, ::-1], header.get_affine() @ turn


def assert_as_nibabel(par: Path, strict_sort: bool = True) -> None:
    expected_XYZT, affine = by_nibabel(par, strict_sort)
    volumes = list(read_series(par))
    assert [volume.index for volume in volumes] == list(range(expected_XYZT.shape[3]))
    for volume in volumes:
        assert volume.data.dtype == np.float32
        assert volume.data.flags.f_contiguous
        np.testing.assert_allclose(volume.data, expected_XYZT[..., volume.index], rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(volume.affine, affine, atol=1e-9)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("orientation", [1, 2, 3])
def test_values_and_affine_are_those_of_nibabel(version: str, orientation: int, tmp_path: Path) -> None:
    par = write_pair(tmp_path / "run.PAR", Pair(version, orientation=orientation))
    assert_as_nibabel(par)
    assert open_series(par).tr_s == 2.0
    assert open_series(par.with_suffix(".REC")).n_volumes == 3


@pytest.mark.parametrize(
    "pair",
    [
        Pair(bits=8),
        Pair(time_first=True),
        Pair(dynamics=(3, 1, 2)),
        Pair(shape=(6, 5, 1), dynamics=(1,)),
        Pair(shape=(5, 7, 3), spacing=(2.5, 3.0), gap=-0.5),
        Pair(general={"Repetition time [ms]": "2000.000 30.000"}),
    ],
)
def test_order_size_and_bits(pair: Pair, tmp_path: Path) -> None:
    assert_as_nibabel(write_pair(tmp_path / "run.par", pair))


def test_v3_has_its_sizes_in_the_general_lines(tmp_path: Path) -> None:
    """nibabel does not read V3: the same content as V4 is the truth."""
    old = list(read_series(write_pair(tmp_path / "old.par", Pair("V3"))))
    new = list(read_series(write_pair(tmp_path / "new.par", Pair("V4"))))
    assert len(old) == len(new) == 3
    for one, other in zip(old, new, strict=True):
        assert np.array_equal(one.data, other.data)
        assert np.array_equal(one.affine, other.affine)
        assert one.tr_s == other.tr_s == 2.0


@pytest.mark.parametrize("orientation", [1, 2, 3])
@pytest.mark.parametrize("swapped", [False, True])
def test_slices_that_run_backwards_by_their_own_centres_are_turned(
    orientation: int, swapped: bool, tmp_path: Path
) -> None:
    pair = Pair(orientation=orientation)
    first = next(read_series(write_pair(tmp_path / "plain.par", pair)))
    # RAS step between slices → (ap, fh, rl): P is -A, S is S, L is -R.
    right, anterior, superior = first.affine[:3, 2]
    step = np.array([-anterior, superior, -right])
    for sign, name in ((1.0, "up"), (-1.0, "down")):
        centres_Z3 = np.arange(4)[:, None] * sign * step
        if swapped:
            centres_Z3 = centres_Z3[:, [2, 0, 1]]  # written as (rl, ap, fh)
        volume = next(read_series(write_pair(tmp_path / f"{name}.par", replace(pair, centres_Z3=centres_Z3))))
        assert np.array_equal(volume.affine, first.affine)
        assert np.array_equal(volume.data, first.data[:, :, :: int(sign)])


def test_a_slice_has_its_centre_where_its_row_states(tmp_path: Path) -> None:
    """Rows of a real file, as nibabel's notes quote them: angulation -13.26° about ap, 6 mm slices, 2 mm gap."""
    centres_Z3 = np.array([[2.51, -0.81, -8.69], [2.51, 6.98, -10.53], [2.51, 14.77, -12.36]])
    middle = tuple(centres_Z3[1])
    pair = Pair(shape=(64, 64, 3), angulation=(-13.26, 0.0, 0.0), centre=middle, centres_Z3=centres_Z3, dynamics=(1,))
    volume = next(read_series(write_pair(tmp_path / "run.par", pair)))
    for k, (ap, fh, rl) in enumerate(centres_Z3):
        centre_mm = volume.affine @ [31.5, 31.5, k, 1]
        np.testing.assert_allclose(centre_mm[:3], [-rl, -ap, fh], atol=0.02)


def test_a_volume_per_pair_in_the_order_of_the_dynamics_or_of_the_names(tmp_path: Path) -> None:
    truth = list(read_series(write_pair(tmp_path / "run.par", Pair(dynamics=(1,)), seed=2)))
    numbered, unnumbered = tmp_path / "numbered", tmp_path / "unnumbered"
    for folder in (numbered, unnumbered):
        folder.mkdir()
    for name, dynamic in (("Dump-0009", 2), ("Dump-0010", 4), ("Dump-0011", 3)):
        write_pair(numbered / f"{name}.par", Pair(dynamics=(dynamic,)), seed=dynamic)
        write_pair(unnumbered / f"{name}.par", Pair(dynamics=(1,)), seed=dynamic)
    by_number, by_name = list(read_series(numbered)), list(read_series(unnumbered))
    assert [volume.index for volume in by_number] == [0, 1, 2]
    assert [volume.index for volume in by_name] == [0, 1, 2]
    assert np.array_equal(by_number[0].data, truth[0].data)
    assert np.array_equal(by_number[1].data, by_name[2].data)
    assert read_volume(numbered / "Dump-0011.rec", run=2, index=7).index == 7


def test_magnitudes_are_chosen_and_it_is_noted(tmp_path: Path) -> None:
    plain = open_series(write_pair(tmp_path / "plain.par", Pair(types=(0,))))
    both = open_series(write_pair(tmp_path / "both.par", Pair(types=(0, 3))))
    assert both.n_volumes == plain.n_volumes == 3
    for one, other in zip(plain, both, strict=True):
        np.testing.assert_array_equal(one.data.shape, other.data.shape)
    assert "chose 12 magnitude images; left out 12 others (phase, real or imaginary)" in both.notes
    assert not any("chose" in note for note in plain.notes)
    with pytest.raises(BadVolume) as caught:
        read_series(write_pair(tmp_path / "phase.par", Pair(types=(3,))))
    assert caught.value.code == "parrec.no_magnitude"


def test_a_stopped_run_gives_its_whole_volumes(tmp_path: Path) -> None:
    series = open_series(write_pair(tmp_path / "run.par", Pair(drop=((3, 3), (3, 4)))))
    assert series.n_volumes == 2
    assert "left out the last volume, which has 2 of 4 slices" in series.notes
    assert_as_nibabel(tmp_path / "run.par", strict_sort=False)  # its strict order puts half volumes first


def test_a_missing_dynamic_is_a_gap(tmp_path: Path) -> None:
    series = open_series(write_pair(tmp_path / "run.par", Pair(dynamics=(1, 2, 5))))
    assert series.n_volumes == 5
    assert [volume.index for volume in series] == [0, 1, 4]


def test_slice_times_are_unknown_and_it_is_noted(tmp_path: Path) -> None:
    series = open_series(write_pair(tmp_path / "run.par", Pair()))
    assert "slice times are unknown: PAR files do not state them" in series.notes
    assert next(iter(series)).slice_times_s is None


def test_the_tr_is_the_time_between_dynamics(tmp_path: Path) -> None:
    presto = Pair(tr_ms=22.0, interval_s=2.0)  # a 3-D sequence: the header has the TR of one excitation
    assert open_series(write_pair(tmp_path / "presto.par", presto)).tr_s == 2.0
    single = Pair(tr_ms=1259.232, interval_s=1.26)  # begin times are rounded: the header knows better
    assert open_series(write_pair(tmp_path / "epi.par", single)).tr_s == pytest.approx(1.259232)
    none = Pair(dynamics=(1,), general={"Repetition time [ms]": "0.000"})
    write_pair(tmp_path / "none.par", none)
    with pytest.raises(BadVolume) as caught:
        read_series(tmp_path / "none.par")
    assert caught.value.code == "volume.tr"
    assert next(read_series(tmp_path / "none.par", tr_s=1.5)).tr_s == 1.5


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        (Pair("V5"), "parrec.version"),
        (Pair(drop=((2, 1),)), "parrec.incomplete"),
        (Pair(dynamics=(1,), drop=((1, 4),)), "parrec.incomplete"),
        (Pair(orientation=4), "parrec.no_geometry"),
        (Pair(spacing=(0.0, 3.0)), "parrec.no_geometry"),
        (Pair(spacing=(float("nan"), 3.0)), "parrec.number"),
        (Pair(thickness=1e30), "parrec.number"),
        (Pair(general={"Max. number of slices/locations": "900000000"}), "parrec.incomplete"),
        (Pair(general={"Angulation midslice(ap,fh,rl)[degr]": "1 2"}), "parrec.no_geometry"),
        (Pair("V3", general={"Recon resolution (x, y)": "999999 999999"}), "parrec.shape"),
        (Pair("V3", general={"Recon resolution (x, y)": "7 6"}), "parrec.truncated"),
        (Pair("V3", general={"Recon resolution (x, y)": "3 3"}), "parrec.trailing"),
        (Pair("V3", general={"Image pixel size [8 or 16 bits]": "12"}), "parrec.shape"),
        (Pair("V3", general={"Slice gap [mm]": "none"}), "parrec.number"),
        (Pair(centres_Z3=np.arange(4)[:, None] * [8.0, 8.0, 8.0]), "parrec.no_geometry"),
    ],
)
def test_each_lie_has_its_code(pair: Pair, code: str, tmp_path: Path) -> None:
    version = pair.version
    write_pair(tmp_path / "run.par", replace(pair, version="V4.2" if version == "V5" else version))
    if version == "V5":
        text = (tmp_path / "run.par").read_text()
        (tmp_path / "run.par").write_text(text.replace("tool     V4.2", "tool     V5"))
    with pytest.raises(BadVolume) as caught:
        list(read_series(tmp_path / "run.par"))
    assert caught.value.code == code


def test_half_a_pair_and_a_growing_pair(tmp_path: Path) -> None:
    par = write_pair(tmp_path / "run.par", Pair())
    rec = par.with_suffix(".rec")
    whole = rec.read_bytes()
    rec.write_bytes(whole[:-1])
    with pytest.raises(BadVolume) as caught:
        open_series(par)
    assert caught.value.code == "parrec.truncated"
    rec.write_bytes(whole)
    series = open_series(par)
    rec.write_bytes(whole[:100])
    with pytest.raises(BadVolume) as caught:
        list(series)
    assert caught.value.code == "parrec.truncated"
    rec.unlink()
    for path in (par, rec, tmp_path):
        with pytest.raises(BadVolume) as caught:
            open_series(path)
        assert caught.value.code == ("series.unreadable" if path == rec else "parrec.no_pair")


def test_pairs_of_several_runs_in_a_folder_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.par", Pair())
    write_pair(tmp_path / "b.par", Pair())
    with pytest.raises(BadVolume) as caught:
        open_series(tmp_path)
    assert caught.value.code == "series.several"


def test_no_identity_comes_out(tmp_path: Path) -> None:
    folder = tmp_path / "Doe^John"
    folder.mkdir()
    par = write_pair(folder / "Doe_John.par", Pair())
    content = par.read_bytes()
    assert content.count(b"ZQXJ") == 4
    series = open_series(par)
    shown = [encode_volume(volume) for volume in series] + [repr(volume).encode() for volume in series]
    shown.append(repr(series.notes).encode())
    for cut in range(0, len(content), 97):
        par.write_bytes(content[:cut])
        try:
            list(read_series(folder))
        except BadVolume as error:
            chain = repr(error.__cause__) + repr(error.__context__)
            shown.append(("".join(traceback.format_exception_only(error)) + repr(error.details) + chain).encode())
    for output in shown:
        assert b"ZQXJ" not in output
        assert b"Doe" not in output


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_pair_is_a_series_or_a_bad_volume(data: st.DataObject, tmp_path: Path) -> None:
    version = data.draw(st.sampled_from(["V3", *VERSIONS]))
    par = write_pair(tmp_path / "run.par", Pair(version))
    content = bytearray(par.read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255) | st.sampled_from(b"0123456789.-eE \n")
        )
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    par.write_bytes(content)
    with contextlib.suppress(BadVolume):
        for _ in zip(read_series(par, tr_s=2.0), range(5), strict=False):
            pass


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 5000,
        b"." * 10_000_000,
        b".\n" * 2000,
        b"# image export tool V4\n" + b"1 2 3\n" * 9,
        b"# image export tool V4\n" + b"1 " * 49 + b"\n",
        b"# image export tool V4\n" + (b"1 " * 49 + b"\n") * 9000,
    ],
    ids=["empty", "zeros", "long line", "many lines", "short rows", "one row", "many rows"],
)
def test_what_is_no_par_file_is_refused_within_bounds(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(par_header, "MAX_IMAGES", 1000)
    par = tmp_path / "run.par"
    par.write_bytes(content)
    par.with_suffix(".rec").write_bytes(b"12")
    tracemalloc.start()
    with pytest.raises(BadVolume):
        open_series(par)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_a_nifti_beside_a_pair_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path / "run.par", Pair())
    shutil.copy(tmp_path / "run.par", tmp_path / "run.nii")
    with pytest.raises(BadVolume) as caught:
        open_series(tmp_path)
    assert caught.value.code == "series.several"

"""PAR/REC of several echoes, in folders and live; pairs that only their names count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindsight.errors import BadVolume
from mindsight.scanner import open_series
from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.assembly.file_contents import read_unit, unit_of
from mindsight.scanner.formats.parrec import read_parrec
from mindsight.scanner.transports import Expected, Item, TransportWarning
from mindsight.volume import Volume
from support.par_files import Pair, write_pair


def alone(path: Path, echo: int) -> list[np.ndarray]:
    pair = read_parrec(path, echo)
    return [volume.data for volume in pair.volumes(2.0, 1)]


def live(folder: Path, **expected: object) -> tuple[list[Volume], list[TransportWarning]]:
    assembler, items = Assembler(Expected(**expected), 3.0), list[Item]()
    for k, path in enumerate(sorted(folder.glob("*.par"))):
        for content in read_unit(unit_of(str(path)), None):
            items += assembler.add(Arrival(content, 1000.0 + k), float(k))
    items += assembler.finish()
    return [one for one in items if isinstance(one, Volume)], [
        one for one in items if isinstance(one, TransportWarning)
    ]


@pytest.mark.parametrize("version", ["V3", "V4", "V4.2"])
@pytest.mark.parametrize("echo", [None, 2, 3])
def test_a_run_of_three_echoes(version: str, echo: int | None, tmp_path: Path) -> None:
    path = write_pair(tmp_path / "Doe.par", Pair(version, echoes=3))
    series = open_series(path, echo=echo)
    chosen = echo or 1
    np.testing.assert_array_equal([one.data for one in series], alone(path, chosen))
    assert len(list(series)) == 3
    assert f"chose echo {chosen} ({15 + 15 * chosen} ms)" in " ".join(series.notes)
    got, warnings = live(tmp_path, echo=echo)
    np.testing.assert_array_equal([one.data for one in got], alone(path, chosen))
    assert any("left out echo" in warning.text for warning in warnings)


def test_a_pair_for_each_volume(tmp_path: Path) -> None:
    for k in range(4):
        write_pair(tmp_path / f"Dump-{k + 8:04d}.par", Pair(dynamics=(k + 1,), echoes=2), seed=k)
    expected = [alone(path, 2)[0] for path in sorted(tmp_path.glob("*.par"))]
    np.testing.assert_array_equal([one.data for one in open_series(tmp_path, echo=2)], expected)
    got, _ = live(tmp_path, echo=2)
    np.testing.assert_array_equal([one.data for one in got], expected)
    assert [one.index for one in got] == [0, 1, 2, 3]


def test_live_and_folder_combine_to_the_same_bits(tmp_path: Path) -> None:
    write_pair(tmp_path / "Doe.par", Pair(echoes=2, dynamics=(1, 2, 3, 4)))
    series = open_series(tmp_path, echo="combine")
    got, warnings = live(tmp_path, echo="combine")
    assert [one.index for one in got] == [0, 1, 2, 3]
    np.testing.assert_array_equal([one.data for one in got], [one.data for one in series])
    assert warnings[0].text in series.notes


def test_an_echo_that_is_not_there(tmp_path: Path) -> None:
    path = write_pair(tmp_path / "Doe.par", Pair(echoes=2))
    with pytest.raises(BadVolume, match="expected echo 3, got echo 1"):
        open_series(path, echo=3)


def test_a_gap_in_the_names_of_pairs_that_their_headers_do_not_count(tmp_path: Path) -> None:
    for k in (1, 2, 4):
        write_pair(tmp_path / f"Dump-{k:04d}.par", Pair(dynamics=(1,)), seed=k)
    series = open_series(tmp_path)
    assert [one.index for one in series] == [0, 1, 3]
    assert series.n_volumes == 4
    assert any("gap" in note for note in series.notes)

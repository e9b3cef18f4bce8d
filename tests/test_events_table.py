"""How events tables of every origin are read, row by row."""

from __future__ import annotations

import time

import pytest

from mindsight.errors import BadRequest
from mindsight.events import (
    RunEvent,
    candidate_of,
    declare,
    decode_table,
    file_stem,
    parse_events_tsv,
    read_events_table,
)

FACE, HOUSE = RunEvent(4.0, 2.0, "face"), RunEvent(14.0, 2.0, "house")


def test_events_take_what_they_know_and_pass_over_the_rest() -> None:
    text = "\ufefftrial_type\tonset\tduration\tresponse\tstim_file\r\n"
    text += "face\t1.5\t3\tleft\ta/b.png\r\nn/a\t-2\t0\tn/a\tn/a\r\n\r\n"
    assert parse_events_tsv(text) == [RunEvent(1.5, 3, "face", "a/b.png"), RunEvent(-2, 0)]
    assert parse_events_tsv("onset\tduration\n") == []


@pytest.mark.parametrize(
    "text",
    [
        "onset\tduration\ttrial_type\n4\t2\tface\n14\t2\thouse\n",
        "\ufeffOnset\tDuration\tTrial_Type\r4\t2\tface\r14\t2\thouse\r",
        "\n\nonset \tduration\t trial_type\t\t\n 4\t2\tface \t\t\n14\t2\thouse\t\t\n",
        "onset,duration,trial_type\n4.0,2.0,face\n14.0,2.0,house\n",
        'onset,duration,trial_type\r\n"4,0","2,0",face\r\n"14,0","2,0","house"\r\n',
        "onset;duration;trial_type\n4,0;2,0;face\n14,0;2;house\n",
        "onset  duration  trial_type\n 4.0   2.0    face\n14.0   2.0    house\n",
        'duration\tonset\tcondition\n2\t4,0\t"face"\n2\t14,0\t"house"\n',
        "onset_s\tduration_s\ttrial_type\n4e0\t2\tface\n+14\t2\thouse\n",
        "trial_type\tonset\tduration\nface\t4\t2\nhouse\t14\t2\nrest\tn/a\t2\n",
        "# of the second day\n#\nonset (s)\tduration [sec]\ttrial_type\n4\t2\tface\n14\t2\thouse\n",
        "#onset;duration;condition\n4;2;face\n14;2;house\n",
        'onset\tduration\ttrial_type\n"1"\t4\t2\t"face"\n"2"\t14\t2\t"house"\n',  # rows' names, of R
        ",onset,duration,trial_type\n0,4,2,face\n1,14,2,house\n",  # and of pandas
    ],
)
def test_the_same_two_trials_as_programs_and_people_write_them(text: str) -> None:
    assert parse_events_tsv(text) == [FACE, HOUSE]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_in_the_encodings_of_spreadsheets(encoding: str) -> None:
    assert decode_table("onset\tduration\n".encode(encoding)) == "onset\tduration\n"


@pytest.mark.parametrize("column", ["stim_file", "image_name", "Stim_Name", "picture"])
def test_an_images_name_is_kept_under_other_names_of_its_column(column: str) -> None:
    table = read_events_table(f"onset\tduration\t{column}\n1\t2\timages/cat.png\n")
    assert table.events == (RunEvent(1.0, 2.0, None, "images/cat.png"),)
    assert [note.level for note in table.notes] == ([] if column == "stim_file" else ["info"])


@pytest.mark.parametrize(
    ("rows", "kept", "codes", "lines"),
    [
        ("n/a\t2\tface", [], ["events.onset"], "line 2 "),
        ("soon\t2\tface\n4\t2\tface\nnan\t1\tx", [FACE], ["events.onset"], "lines 2, 4 "),
        ("\t2\tface\n4\t2\tface\ninf\t1\tx\n1.2.3\t1\tx", [FACE], ["events.onset"], "lines 2, 4, 5 "),
        ("4\tn/a\tface", [RunEvent(4.0, 0.0, "face")], ["events.no_duration"], "line 2 "),
        ("4\tNA\tn/a\n14\t2\thouse", [RunEvent(4.0, 0.0), HOUSE], ["events.no_duration"], "line 2 "),
        ("4\t-2\tface", [RunEvent(4.0, 0.0, "face")], ["events.duration"], "line 2 "),
        ("4\tlong\tface", [RunEvent(4.0, 0.0, "face")], ["events.duration"], "line 2 "),
        ("4", [RunEvent(4.0, 0.0)], ["events.no_duration"], "line 2 "),
        ("4\t2\tface\tleft", [FACE], ["events.row"], "line 2 "),
        ("4\t2\t" + 300 * "x", [RunEvent(4.0, 2.0, 200 * "x")], ["events.text"], "line 2 "),
        (
            "4000\t2\tface\n60000\t2\tface",
            [RunEvent(4e3, 2, "face"), RunEvent(6e4, 2, "face")],
            ["events.unit"],
            "line 3 ",
        ),
        ("4\t2000\tface", [RunEvent(4.0, 2000.0, "face")], ["events.unit"], "line 2 "),
        ("4\t2\tnull", [RunEvent(4.0, 2.0, "null")], [], ""),
        ("", [], ["events.empty"], "no rows"),
    ],
)
def test_a_row_that_is_not_whole_keeps_what_it_states_and_is_named(
    rows: str, kept: list[RunEvent], codes: list[str], lines: str
) -> None:
    table = read_events_table(f"onset\tduration\ttrial_type\n{rows}\n")
    assert list(table.events) == kept
    assert [note.code for note in table.notes] == codes
    assert lines in "".join(note.text for note in table.notes)


def test_a_table_without_durations_is_one_of_impulses() -> None:
    table = read_events_table("onset\ttrial_type\n1\tface\n2\thouse\n")
    assert table.events == (RunEvent(1.0, 0.0, "face"), RunEvent(2.0, 0.0, "house"))
    assert [note.code for note in table.notes] == ["events.no_duration"]


@pytest.mark.parametrize("path", ["../x.png", "/home/doe/x.png", "C:\\Users\\Doe\\x.png", "http://doe.example/x.png"])
def test_of_an_image_outside_the_stimuli_the_name_alone_is_kept(path: str) -> None:
    table = read_events_table(f"onset\tduration\tstim_file\n1\t2\t{path}\n")
    assert table.events == (RunEvent(1.0, 2.0, None, "x.png"),)
    assert [note.code for note in table.notes] == ["events.stim_file"]
    assert "oe" not in table.notes[0].text.replace("does", "").replace("none", "")


def test_decimal_commas_between_commas_are_no_numbers() -> None:
    table = read_events_table("onset,duration,trial_type\n4,5,2,face\n14,2,house\n")
    assert table.events == (HOUSE,)
    assert [note.code for note in table.notes] == ["events.commas"]
    assert "line 2 " in table.notes[0].text


def test_a_name_with_a_space_between_spaces_is_no_other_name() -> None:
    table = read_events_table("onset duration stim_file\n4 2 my cat.png\n14 2 dog.png\n")
    assert table.events == (RunEvent(14.0, 2.0, None, "dog.png"),)
    assert [note.code for note in table.notes] == ["events.commas"]


def test_a_cell_of_any_length_between_commas() -> None:
    table = read_events_table(f"onset,duration,trial_type\n4,2,{200_000 * 'x'}\n")
    assert table.events == (RunEvent(4.0, 2.0, 200 * "x"),)


def test_folders_as_windows_writes_them() -> None:
    table = read_events_table("onset\tduration\tstim_file\n1\t2\timages\\cat.png\n")
    assert table.events == (RunEvent(1.0, 2.0, None, "images/cat.png"),)
    assert candidate_of("images\\cat.png", {"cat"}) == file_stem("images\\cat.png") == "cat"


def test_a_table_of_many_rows_is_read_in_time() -> None:
    began_s = time.process_time()
    table = read_events_table("onset,duration,trial_type\n" + "".join(f"{n},1,x,y\n{n},1,x\n" for n in range(20_000)))
    assert declare(table.events).events[-1].trial == 20_000
    assert time.process_time() - began_s < 5.0  # it was over 10 s where a row cost as much as those before it


def test_a_long_list_of_faults_is_one_note() -> None:
    table = read_events_table("onset\tduration\n" + 400 * "n/a\t1\n")
    (note,) = table.notes
    assert "and 390 more" in note.text
    assert len(note.text) < 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4\t2\tface\n",
        "duration\n1\n",
        "onset\tduration\tonset\n1\t2\t3\n",
        "onset\ttrial_type\ttrial_type\n1\t2\t3",
    ],
)
def test_a_table_of_which_no_row_can_be_read_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_events_tsv(text)
    assert caught.value.code == "events.columns"
    assert "line" in caught.value.details
    assert "face" not in str(caught.value)

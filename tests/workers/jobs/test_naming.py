"""What is erased is found where it is named, and no other word is taken for it."""

from __future__ import annotations

import pytest

from workers.jobs.naming import Named


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("archive/sub-x_ses-1", True), ('{"session":"ses-1"}', True), ("ses-1-archive", True), ("ses-1", True),
        ("ses-10", False), ("ses-1-b", False), ("ses-1-b and ses-1", True), ("houses-1", False),
    ],
)  # fmt: skip
def test_a_name_is_found_as_a_word_of_its_own(content: str, expected: bool) -> None:
    assert Named(["ses-1"], ["ses-10", "ses-1-b", "other"])(content.encode()) is expected


@pytest.mark.parametrize("name", ["1", "01", "demo", "run-1", "T1", "2026-11-30"])
@pytest.mark.parametrize(
    "form",
    [
        "s:{%s}:messages:log", "s:{%s-archive}:lease", "q:{inference}:fence:%s", '{"v":1,"session":"%s","t":1.0}',
        '{"body":"{\\"session\\":\\"%s\\"}"}', '"session": "%s"', '"sessions":["ses-b","%s"]', '"sessions": ["%s"]',
        '"live":"%s"', '"source": "%s, estimated again"', "%s-12-3-final", "%s.safetensors",
        "%s-run-2-series.safetensors", "%s.safetensors.tmp", "%s.input.jsonl.z",
        "archive written: /srv/archive/sub-abc123_%s", "ingest: session %s: bad", "GET /v1/sessions/%s/runs",
    ],
)  # fmt: skip
def test_a_plain_word_is_found_where_a_session_is_named(name: str, form: str) -> None:
    assert Named([name], ["other"])((form % name).encode())


@pytest.mark.parametrize("name", ["1", "01", "demo", "run-1", "T1", "2026-11-30"])
@pytest.mark.parametrize(
    "content",
    [
        '{"run":1,"trial":01,"bundle":"demo","text":"run-1 of 2026-11-30"}', "ses-b-run-1-series.safetensors",
        "sub-abc123_ses-b_run-1_T1w.nii.gz", "2026-11-30 demo run-1: 1 session", '{"stage":"1","live":null}',
        "sessions/ses-1", "s:{run-1-b}:lease", '"sessions":[],"pool":"demo"', "ses-01", "s:{ses-1}:log",
    ],
)  # fmt: skip
def test_a_plain_word_is_not_found_where_it_means_something_else(name: str, content: str) -> None:
    assert not Named([name], ["other"])(content.encode())


@pytest.mark.parametrize("subject", ["sub-abc123", "sub-123456", "sub-qwerty", "sub-sample"])
def test_names_of_a_subject_and_its_sessions_are_found_together(subject: str) -> None:
    named = Named(["1", "ses-7"], ["ses-71"], subject)
    told = (subject.encode(), b"participant\n%s\n" % subject.encode(), b"session 1", b"ses-7", b"ses-71", b"run 1")
    assert [named(content) for content in told] == [True, True, True, True, False, False]
    assert not Named(["1", "ses-7"], [])(subject.encode())


def test_a_name_that_mindsight_gave_is_found_without_a_digit_too() -> None:
    assert Named(["ses-deafbeef"], ["other"])(b"notes of ses-deafbeef, run 1")

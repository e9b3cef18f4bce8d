"""The page in a real browser, fed with recorded sessions: what it shows, what it holds, and how it comes back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest

from mindsight.protocol.messages import (
    Candidate,
    Captioned,
    Message,
    Reconstruction,
    ReconstructionFit,
    Result,
    RunStarted,
    Warned,
)
from support.dashboard_browser import SIZES, Tab
from support.dashboard_feeder import KEY, Feeder
from support.dashboard_record import N_VOLUMES, Record, iter_trials, remade, widest
from support.dashboard_text import misfits

FITS = "document.documentElement.scrollHeight <= innerHeight && document.documentElement.scrollWidth <= innerWidth"
BLANK = """[...document.querySelectorAll('.live canvas')].filter((canvas) => {
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(new Uint32Array(data.buffer)).size < 20;
}).map((canvas) => canvas.getAttribute('aria-label'))"""
# Panels, pictures and candidates that touch the one before them.
APART = """['.live > * > *', '.pair > *', 'ms-candidates li .row'].flatMap((all) => {
    const near = (b, a) => b.left < a.right + 4 && b.top < a.bottom + 4;
    const boxes = [...document.querySelectorAll(all)].map((el) => el.getBoundingClientRect()).filter((b) => b.width);
    return boxes.slice(1).map((b, i) => [all, i, b, boxes[i]])
        .filter(([, , b, a]) => near(b, a) && near(a, b))
        .map(([all, i]) => `${all} ${i}`);
})"""
# What every panel says that counts or lists something.
SAID = (
    "[...document.querySelectorAll(':is(ms-motion, ms-displacement, ms-trials) .aside, ms-accuracy tbody, ms-events ol,"
)
SAID += " ms-displacement .readings, ms-latency .reading')].map((el) => el.textContent)"
PICTURES = "[...document.querySelectorAll('.live img')].filter((i) => !i.hidden && i.naturalWidth > 0).length"


SLOW_TR_S = 100.0

# Milliseconds of a stage whose text is as wide as each unit can make it, and of which the sum of stages is so too.
EACH_MS = (888.8, 8_888.0, 88_888.0, 8_888_888.0)


@pytest.fixture(scope="module")
def wide_records(open_record: Record) -> list[Record]:
    return [widest(open_record, each_ms) for each_ms in EACH_MS]


@pytest.fixture(scope="module")
def failing_record(open_record: Record) -> Record:
    """The session's beginning, and then an alert of each level."""
    record = Record("ses-failing", images=dict(open_record.images))
    for message in open_record.messages[: open_record.until(1, 20)]:
        record.add(message.model_copy(update={"session": record.session}))
    for level in ("info", "warning", "error"):
        record.add(
            Warned(session=record.session, t=message.t, code="test.alert", text=f"an {level} alert", level=level)
        )
    return record


@pytest.fixture(scope="module")
def slow_record(open_record: Record) -> Record:
    """With a TR so long that how fast this machine opens a page does not count."""

    def change(message: Message) -> Message:
        return message.model_copy(update={"tr_s": SLOW_TR_S}) if isinstance(message, RunStarted) else message

    return remade(open_record, "ses-slow", change)


@pytest.fixture(scope="module")
def server(
    open_record: Record,
    blinded_record: Record,
    wide_records: list[Record],
    failing_record: Record,
    slow_record: Record,
) -> Iterator[Feeder]:
    with Feeder([open_record, blinded_record, failing_record, slow_record, *wide_records]) as feeder:
        yield feeder


@pytest.fixture
def feeder(server: Feeder) -> Feeder:
    """The server with nothing published yet."""
    server.reset()
    return server


def _open(tab: Tab, feeder: Feeder, record: Record, n: int, last_was_s_ago: float = 0.2) -> None:
    feeder.publish(record.session, n, last_was_s_ago=last_was_s_ago)
    tab.page.goto(f"{feeder.url}/#key={KEY}&session={record.session}")
    tab.until("document.querySelector('ms-header .link')?.textContent.includes('connected')")
    tab.until_message(n)


def _state_is(tab: Tab, state: str) -> None:
    tab.until(f"document.querySelector('ms-header .chip').dataset.state === '{state}'")


def test_one_screen_at_every_size_without_scrolling_overflow_or_a_console_message(
    tab: Tab, feeder: Feeder, open_record: Record
) -> None:
    _open(tab, feeder, open_record, open_record.until(2, 63))
    tab.until(f"({PICTURES}) === 10")
    _fits(tab, SIZES)
    assert tab.problems == []
    assert all(url.startswith((feeder.url, "blob:")) for url in tab.requests)
    assert tab.page.evaluate(BLANK) == []


@pytest.mark.parametrize("width", [360, 390, 1024])
def test_on_a_small_window_the_panels_lie_below_each_other_and_show_the_same(
    tab: Tab, feeder: Feeder, open_record: Record, width: int
) -> None:
    tab.page.set_viewport_size({"width": width, "height": 740})
    _open(tab, feeder, open_record, open_record.until(2, 63))
    tab.until(f"({PICTURES}) === 10")
    assert tab.page.evaluate("document.querySelector('ms-brain .picture').getBoundingClientRect().height") > 90
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.page.evaluate(APART) == []
    assert tab.page.evaluate(BLANK) == []


def test_an_image_that_cannot_be_loaded_yet_is_asked_for_again(tab: Tab, feeder: Feeder, open_record: Record) -> None:
    feeder.unready = dict.fromkeys(open_record.images, 2)
    missing = "[...document.querySelectorAll('.live .placeholder')].filter((el) => el.textContent !== '').length"
    _open(tab, feeder, open_record, open_record.until(2, 63))
    tab.until(f"({PICTURES}) === 0 && ({missing}) === 10")
    assert "image not available" in tab.text("ms-trial .pair")
    tab.until(f"({PICTURES}) === 10 && ({missing}) === 0")
    assert len(feeder.unready) > 10
    feeder.reset()
    feeder.images, kept = {}, feeder.images  # gone for good: asked for once
    try:
        _open(tab, feeder, open_record, open_record.until(2, 64))
        tab.page.reload()
        tab.until(f"({missing}) === 10")
        tab.page.wait_for_timeout(1500)
        asked = [url for url in tab.requests if "/v1/images/" in url]
        tab.page.wait_for_timeout(1500)
        assert [url for url in tab.requests if "/v1/images/" in url] == asked
    finally:
        feeder.images = kept


def _fits(tab: Tab, sizes: list[tuple[int, int]]) -> None:
    for width, height in sizes:
        tab.page.set_viewport_size({"width": width, "height": height})
        assert misfits(tab.page) == [], (width, height)
        assert tab.page.evaluate(FITS), (width, height)


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(EACH_MS)), ids=[f"{ms:.0f} ms" for ms in EACH_MS])
def test_the_widest_figures_that_can_occur_fit(
    tab: Tab, feeder: Feeder, wide_records: list[Record], place: int
) -> None:
    """What a machine's clock says decides how wide the figures are: none may push another out of its panel."""
    record = wide_records[place]
    silent_s = (3.1, 8.8, 88.0, 8_800.0)[place]  # late, silent, and in the units of an age
    _open(tab, feeder, record, record.until(2, 63), last_was_s_ago=silent_s)
    tab.until(f"({PICTURES}) === 10")
    tab.until("document.querySelector('ms-latency .stage .reading').textContent !== '–'")
    _fits(tab, SIZES[-1:])


def test_the_key_leaves_the_address_and_stays_in_the_tab(tab: Tab, feeder: Feeder, open_record: Record) -> None:
    _open(tab, feeder, open_record, 200)
    assert KEY not in tab.page.url
    assert tab.page.url.endswith(f"#session={open_record.session}")
    assert tab.page.evaluate("sessionStorage.length") == 1
    assert tab.page.evaluate("localStorage.length") == 0
    assert not any(KEY in url for url in tab.requests)


def test_the_header_counts_what_the_messages_say(tab: Tab, feeder: Feeder, open_record: Record) -> None:
    _open(tab, feeder, open_record, open_record.until(2, 63))
    _state_is(tab, "LIVE")
    header = tab.text("ms-header")
    assert "sub-7f3a" in header
    assert f"64 / {N_VOLUMES}" in header
    assert "1:36 · 0:54 left" in header


def test_states_from_waiting_to_archived(tab: Tab, feeder: Feeder, open_record: Record) -> None:
    _open(tab, feeder, open_record, 1)
    _state_is(tab, "WAITING")
    feeder.publish(open_record.session, open_record.until(1, 30))
    _state_is(tab, "LIVE")
    feeder.publish(open_record.session, len(open_record.messages) - 1)
    _state_is(tab, "CLOSED")
    feeder.publish(open_record.session, len(open_record.messages))
    _state_is(tab, "ARCHIVED")
    assert "no volume" not in tab.text("ms-header")
    assert tab.problems == []


@pytest.mark.slow
def test_a_silent_scanner_turns_amber_then_red_and_reports_it(tab: Tab, feeder: Feeder, slow_record: Record) -> None:
    for trs, level, word in ((2.0, "amber", "late"), (3.5, "red", "silent")):
        feeder.reset()
        _open(tab, feeder, slow_record, slow_record.until(1, 63), last_was_s_ago=trs * SLOW_TR_S)
        tab.until(f"document.querySelector('ms-header .alive').dataset.level === '{level}'")
        assert word in tab.text("ms-header .alive")


@pytest.mark.slow
def test_between_runs_silence_is_no_alarm(tab: Tab, feeder: Feeder, open_record: Record) -> None:
    second_run = [m.type for m in open_record.messages].index("run.ended") + 1
    _open(tab, feeder, open_record, second_run, last_was_s_ago=60)
    _state_is(tab, "WAITING")
    tab.until("document.querySelector('ms-header .alive').textContent.includes('run 1 complete')")
    assert tab.page.get_attribute("ms-header .alive", "data-level") == "idle"


def test_a_blinded_page_never_holds_the_truth(
    tab: Tab, feeder: Feeder, open_record: Record, blinded_record: Record
) -> None:
    _open(tab, feeder, blinded_record, len(blinded_record.messages) - 2)
    tab.until("document.querySelectorAll('ms-candidates img:not([hidden])').length === 8")
    for _ in range(30):
        tab.page.keyboard.press("ArrowLeft")
    events = [m for m in map(json.loads, tab.frames) if m["type"] == "event.added"]
    assert len(events) == 24
    assert not any({"stimulus", "candidate", "label"} & m.keys() for m in events)
    page = tab.page.content()
    labels = {m.label for m in iter_trials(open_record)}  # the same experiment, unblinded
    assert None not in labels
    assert len(labels) > 4
    assert not any(label in page or label in "".join(tab.frames) for label in labels if label)
    assert "hidden until unblinding" in tab.text("ms-trial")
    assert "BLINDED" in tab.text("ms-header")
    assert not tab.page.is_visible("ms-accuracy")
    assert "was shown" not in tab.text(".live")
    assert _image_requests(tab) <= _result_images(blinded_record)
    assert tab.page.evaluate(FITS)


def _image_requests(tab: Tab) -> set[str]:
    return {url.rpartition("/")[2] for url in tab.requests if "/v1/images/" in url}


def _result_images(record: Record) -> set[str]:
    """Images that results name: candidates and reconstructions."""
    images: set[str] = set()
    for m in record.messages:
        if isinstance(m, Reconstruction):
            images.add(m.image)
        elif isinstance(m, Result):
            images |= {c.image for c in m.candidates if isinstance(c, Candidate) and c.image}
    return images


def test_a_lost_connection_is_reported_and_resumed_without_a_loss_or_a_repetition(
    tab: Tab, feeder: Feeder, open_record: Record
) -> None:
    _open(tab, feeder, open_record, open_record.until(1, 40))
    tab.until("document.querySelector('ms-header').textContent.includes('41 / 100')")
    feeder.refuse = True
    feeder.drop(open_record.session)
    tab.until("!document.querySelector('ms-banner').hidden")
    assert "No connection" in tab.text("ms-banner")
    assert "may be old" in tab.text("ms-banner")
    assert tab.page.evaluate(FITS)
    feeder.publish(open_record.session, open_record.until(2, 50))
    feeder.refuse = False
    tab.until("document.querySelector('ms-banner').hidden")
    tab.until("document.querySelector('ms-header').textContent.includes('51 / 100')")
    ids = [m["id"] for m in map(json.loads, tab.frames) if m["type"] != "tick"]
    assert ids == list(range(1, open_record.until(2, 50) + 1))
    tab.until_message(ids[-1])
    resumed = tab.page.evaluate(SAID)
    tab.page.reload()  # a page that was never disconnected
    tab.until_message(ids[-1])
    assert tab.page.evaluate(SAID) == resumed


@pytest.mark.slow
def test_a_connection_that_falls_silent_is_replaced(tab: Tab, feeder: Feeder, open_record: Record) -> None:
    _open(tab, feeder, open_record, open_record.until(1, 40))
    feed = feeder.feeds[open_record.session]
    feed.ticking = False
    tab.until("!document.querySelector('ms-banner').hidden")
    feed.ticking = True
    tab.until("document.querySelector('ms-banner').hidden")


@pytest.mark.slow
def test_older_trials_are_looked_at_with_keys_and_clicks_and_escape_returns(
    tab: Tab, feeder: Feeder, open_record: Record
) -> None:
    _open(tab, feeder, open_record, open_record.until(2, 63))
    tab.until("document.querySelector('ms-trial h2').textContent === 'Trial 8 · run 2'")
    tab.page.keyboard.press("ArrowLeft")
    tab.until("document.querySelector('ms-trial h2').textContent === 'Trial 7 · run 2'")
    assert "looking back" in tab.text("ms-trial header")
    tab.page.keyboard.press("Home")
    tab.until("document.querySelector('ms-trial h2').textContent === 'Trial 1 · run 1'")
    feeder.publish(open_record.session, open_record.until(2, 75))
    tab.until("document.querySelector('ms-header').textContent.includes('76 / 100')")
    assert tab.text("ms-trial h2").lower() == "trial 1 · run 1"
    tab.page.keyboard.press("Escape")
    tab.until("document.querySelector('ms-trial h2').textContent === 'Trial 9 · run 2'")
    assert "looking back" not in tab.text("ms-trial header")
    tab.page.click("ms-trials canvas", position={"x": 30, "y": 40})
    tab.until("document.querySelector('ms-trial h2').textContent === 'Trial 1 · run 1'")
    slider = tab.page.get_attribute("ms-trials canvas", "aria-valuetext")
    assert slider == "trial 1 of run 1, final"


@pytest.mark.slow
def test_a_reconstruction_is_never_without_its_own_fit_and_how_it_was_made(
    tab: Tab, feeder: Feeder, open_record: Record
) -> None:
    _open(tab, feeder, open_record, len(open_record.messages))
    _state_is(tab, "ARCHIVED")
    for trial in range(12, 0, -1):
        tab.until(f"document.querySelector('ms-trial h2').textContent === 'Trial {trial} · run 2'")
        made = [m for m in open_record.messages if isinstance(m, Reconstruction) and (m.run, m.trial) == (2, trial)][-1]
        (fit,) = (m for m in open_record.messages if isinstance(m, ReconstructionFit) and m.image == made.image)
        assert fit.fit_percentile is not None
        card = tab.text("ms-trial")
        assert f"{made.evaluations} steps" in card
        rating = f"{fit.token_cosine:.2f} percentile {math.floor(fit.fit_percentile)}"
        assert tab.text("ms-trial .fit .reading") == rating
        assert "Token cosine" in tab.text("ms-trial .fit")
        assert f"seed {made.seed}" in card
        assert made.from_ranking is not None
        assert f"guided by the ranking: {round(100 * made.from_ranking)} %" in card
        assert made.generator[:7] in card
        result = [m for m in open_record.messages if isinstance(m, Result) and (m.run, m.trial) == (2, trial)][-1]
        sure = f"first of 100 right: {result.confidence:.2f} · null 0.24 · chance 0.01"
        assert tab.text("ms-candidates .aside") == sure
        assert "null" not in card
        tab.page.keyboard.press("ArrowLeft")


@pytest.mark.slow
def test_a_preview_is_named_so_and_the_image_takes_its_place(tab: Tab, feeder: Feeder, open_record: Record) -> None:
    last = max(
        n for n, m in enumerate(open_record.messages) if isinstance(m, Reconstruction) and m.version == "preview"
    )
    preview = open_record.messages[last]
    assert isinstance(preview, Reconstruction)
    _open(tab, feeder, open_record, last + 1)
    tab.until("document.querySelector('ms-trial .pair figure:last-child figcaption b').textContent.endsWith('preview')")
    assert "2 steps" in tab.text("ms-trial .pair figure:last-child")
    tab.until(f"document.querySelector('ms-trial .pair img[data-digest=\"{preview.image}\"]') !== null")
    feeder.publish(open_record.session, last + 2)
    tab.until("document.querySelector('ms-trial .pair figure:last-child figcaption b').textContent.endsWith('fast')")
    assert tab.problems == []


@pytest.mark.slow
def test_a_fit_that_is_not_there_or_not_calibrated_is_said_to_be_so(
    tab: Tab, feeder: Feeder, open_record: Record
) -> None:
    place, fit = next(
        (n, m) for n, m in enumerate(open_record.messages) if isinstance(m, ReconstructionFit) and m.stage == "revised"
    )
    assert fit.fit_percentile is None
    _open(tab, feeder, open_record, place)
    tab.until("document.querySelector('ms-trial figcaption b').textContent")
    _look_at(tab, fit.trial)
    assert tab.text("ms-trial .fit .reading") == "not measured"
    assert tab.page.get_attribute("ms-trial .fit .track", "aria-valuenow") is None
    feeder.publish(open_record.session, place + 1)
    tab.until("document.querySelector('ms-trial .fit .reading').textContent.includes('not calibrated')")
    assert tab.text("ms-trial .fit .reading") == f"{fit.token_cosine:.2f} percentile not calibrated"
    assert tab.problems == []


def _look_at(tab: Tab, trial: int) -> None:
    for _ in range(3):
        if tab.page.evaluate(f"document.querySelector('ms-trial h2').textContent === 'Trial {trial} · run 1'"):
            return
        tab.page.keyboard.press("ArrowLeft")
        tab.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    raise AssertionError(f"trial {trial} is not shown")


@pytest.mark.slow
def test_a_caption_is_shown_on_its_own_reconstruction(tab: Tab, feeder: Feeder, open_record: Record) -> None:
    last = max(n for n, m in enumerate(open_record.messages) if isinstance(m, Reconstruction))
    drawn = open_record.messages[last]
    caption = open_record.messages[last + 2]
    assert isinstance(drawn, Reconstruction)
    assert isinstance(caption, Captioned)
    _open(tab, feeder, open_record, last + 1)
    tab.until(f"document.querySelector('ms-trial .how').textContent.includes('seed {drawn.seed}')")
    assert not tab.page.is_visible("ms-trial .sentence")  # a caption of an earlier stage does not belong to this one
    feeder.publish(open_record.session, last + 3)
    tab.until("[...document.querySelectorAll('ms-trial .sentence')].some((el) => el.checkVisibility())")
    assert caption.text in tab.text("ms-trial .pair figure:last-child .frame")
    assert f"captioner {caption.model[:7]}" in tab.text("ms-trial .how")
    assert tab.problems == []


@pytest.mark.slow
def test_an_alert_keeps_its_level_in_the_list_of_events(tab: Tab, feeder: Feeder, failing_record: Record) -> None:
    _open(tab, feeder, failing_record, len(failing_record.messages))
    tab.until("document.querySelectorAll('ms-events li.error').length === 1")
    assert tab.text("ms-events li.error").endswith("✕ an error alert")
    assert "▲ an warning alert" in tab.text("ms-events li.warning")
    assert "an info alert" in tab.text("ms-events li.info")
    assert "✕ 1\u2009error · ▲ 1\u2009warning" in tab.text("ms-events .aside")
    assert tab.page.inner_text("ms-events [aria-live]") == "an error alert"
    red, amber = (
        tab.page.evaluate(f"getComputedStyle(document.querySelector('ms-events li.{level}')).color")
        for level in ("error", "warning")
    )
    assert red != amber
    assert tab.problems == []


def test_a_wrong_key_is_asked_for_again(tab: Tab, feeder: Feeder, open_record: Record) -> None:
    feeder.publish(open_record.session, 10)
    tab.page.goto(f"{feeder.url}/#key=ms_wrong&session={open_record.session}")
    tab.until("document.querySelector('.key-form .problem')?.textContent.includes('did not accept')")
    assert tab.page.evaluate("sessionStorage.length") == 0
    tab.page.fill("#key", KEY)
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('ms-header .link')?.textContent.includes('connected')")


@pytest.mark.slow
def test_a_session_that_does_not_exist_is_reported(tab: Tab, feeder: Feeder) -> None:
    tab.page.goto(f"{feeder.url}/#key={KEY}&session=ses-nowhere")
    tab.until("document.querySelector('ms-banner')?.textContent.includes('no session “ses-nowhere”')")


@pytest.mark.slow
def test_without_a_session_the_list_has_them_all_and_leads_to_each(
    tab: Tab, feeder: Feeder, open_record: Record, blinded_record: Record
) -> None:
    feeder.publish(open_record.session, len(open_record.messages), last_was_s_ago=100)
    feeder.publish(blinded_record.session, blinded_record.until(1, 20))
    tab.page.goto(f"{feeder.url}/#key={KEY}")
    tab.until("document.querySelectorAll('.cards li').length === 2")
    assert "run 1 · 37 volumes" in tab.text(".cards li")
    cards = [card.inner_text() for card in tab.page.query_selector_all(".cards li")]
    assert "OPEN" in cards[0]
    assert "BLINDED" in cards[0]
    assert "CLOSED" in cards[1]
    tab.page.click(".cards a")
    tab.until("document.querySelector('ms-header .link')?.textContent.includes('connected')")
    assert tab.page.url.endswith(f"#session={blinded_record.session}")
    tab.page.click("ms-header > a.button")
    tab.until("document.querySelector('nav [aria-current]')?.textContent === 'Sessions'")
    assert tab.problems == []

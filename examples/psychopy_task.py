"""A rapid event-related run with PsychoPy: images in time with the scanner, and each one's fast result.

    MINDSIGHT_URL=http://127.0.0.1:8420 MINDSIGHT_KEY=ms_... python psychopy_task.py ses-1 pictures/ --run 1

Needs psychopy. ``mindsight stream`` sends the volumes of the same session and run, from the scanner's console: it
declares the run, and its events are declared here, each with the onset that was really on the screen. Events wait for
the service, the screen does not. A result is awaited until shortly before the next image; without one in time the task
goes on, and says so in its log.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import sys
from pathlib import Path

from psychopy import core, event, visual

from mindsight.client import Console, EventSender, Session
from mindsight.errors import MindsightError

ON_S, OFF_S, LEAD_IN_S = 3.0, 1.0, 6.0
TRIGGER, QUIT = "5", "escape"  # what the scanner's interface types for each volume, and who wants to stop


def main() -> None:
    given = _arguments()
    url, key = os.environ["MINDSIGHT_URL"], os.environ["MINDSIGHT_KEY"]
    files = sorted(path for path in given.images.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    random.Random(given.run).shuffle(files)  # noqa: S311 -- an order, no secret
    with (
        Console(url, key, session=given.session) as console,
        Session(url, key, given.session) as session,
        EventSender(console) as events,
    ):
        # The service knows each image before it is shown: uploading takes time, and the screen must not wait.
        shown = [(path, console.post_image(path.read_bytes())) for path in files[: given.trials]]
        log = run_task(events, session, given.run, shown)
        left = [str(event["trial"]) for event in events.close()]
        for event, why in events.refused:
            print(f"the service refused trial {event['trial']}: {why}", file=sys.stderr)
        if left:
            print(f"the service has not taken trials {', '.join(left)}; the onsets are in {given.log}", file=sys.stderr)
    with given.log.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["trial", "image", "onset_s", "decoded", "confidence", "waited_s"])
        writer.writeheader()
        writer.writerows(log)


def run_task(events: EventSender, session: Session, run: int, shown: list[tuple[Path, str]]) -> list[dict[str, object]]:
    """Show the images; returns one row for each trial. ``mindsight stream`` declares the run at its first volume."""
    window = visual.Window(fullscr=True, color="gray", units="height")
    fixation = visual.TextStim(window, text="+")
    pictures = [visual.ImageStim(window, image=str(path), size=0.6) for path, _ in shown]
    fixation.draw()
    window.flip()
    event.waitKeys(keyList=[TRIGGER])  # the first volume begins: onsets count from here
    clock = core.Clock()
    log: list[dict[str, object]] = []
    try:
        for trial, ((path, digest), picture) in enumerate(zip(shown, pictures, strict=True), 1):
            due_s = LEAD_IN_S + (trial - 1) * (ON_S + OFF_S)
            _wait_until(clock, due_s)
            picture.draw()
            window.flip()
            onset_s = clock.getTime()
            events.add_event(run, onset_s=onset_s, duration_s=ON_S, trial=trial, stimulus=digest, candidate=path.stem)
            _wait_until(clock, due_s + ON_S)
            fixation.draw()
            window.flip()
            log.append({"trial": trial, "image": path.name, "onset_s": round(onset_s, 3)})
            # the result of the trial two before this one is due now: its response has risen
            if trial > 2:
                log[trial - 3] |= _result(session, run, trial - 2, due_s + ON_S + 0.8 * OFF_S - clock.getTime(), clock)
            if event.getKeys(keyList=[QUIT]):
                break
        for row in log[-2:]:
            row |= _result(session, run, int(str(row["trial"])), 15.0, clock)
    finally:
        window.close()
    return log


def _result(session: Session, run: int, trial: int, deadline_s: float, clock: core.Clock) -> dict[str, object]:
    """What was decoded, or that nothing came in time: the task goes on either way."""
    began_s = clock.getTime()
    try:
        result = session.wait(trial, stage="fast", deadline_s=max(0.0, deadline_s), run=run)
    except MindsightError as error:
        return {"decoded": f"none ({error.code})", "waited_s": round(clock.getTime() - began_s, 3)}
    found = {"decoded": result.candidates[0].id, "confidence": round(result.confidence, 3)}
    return found | {"waited_s": round(clock.getTime() - began_s, 3)}


def _wait_until(clock: core.Clock, moment_s: float) -> None:
    while (left_s := moment_s - clock.getTime()) > 0.0:
        core.wait(min(left_s, 0.01))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Show images in the scanner and wait for what was decoded.")
    parser.add_argument("session")
    parser.add_argument("images", type=Path, help="folder of PNG or JPEG; a file's name is its id in the pool")
    parser.add_argument("--run", type=int, default=1)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--log", type=Path, default=Path("task.csv"))
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Lab Streaming Layer: results go out as markers, and a stimulus program's markers come in as events.

    MINDSIGHT_URL=http://127.0.0.1:8420 MINDSIGHT_KEY=ms_... python lsl_markers.py ses-1 --events-from Stimulus

Needs pylsl. Out: a stream "Mindsight" of type Markers, one JSON text for each result, with the LSL time of its arrival.
In: markers like ``{"trial": 3, "candidate": "scene-017", "duration_s": 3}`` from the stream of that name; the onset is
the marker's LSL time since the marker ``{"run": 1}``, which the stimulus program sends with the run's first volume.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from typing import Any

import pylsl

from mindsight.client import Console, Watch
from mindsight.errors import MindsightError
from mindsight.protocol import Result


def send_results(url: str, key: str, session: str) -> None:
    """Every result of the session as a marker, until the session is archived."""
    described = pylsl.StreamInfo("Mindsight", "Markers", 1, pylsl.IRREGULAR_RATE, "string", f"mindsight-{session}")
    outlet = pylsl.StreamOutlet(described)
    for message in Watch(url, key, session):
        if isinstance(message, Result):
            first = message.candidates[0]
            marker = {"run": message.run, "trial": message.trial, "stage": message.stage, "decoded": first.id}
            outlet.push_sample([json.dumps(marker | {"confidence": round(message.confidence, 4)})])


def take_events(console: Console, stream: str, stop: threading.Event) -> None:
    """Markers of the stimulus program as events of its run. A wrong marker is printed, and the rest goes on."""
    found = pylsl.resolve_byprop("name", stream, timeout=30.0)
    if not found:
        raise SystemExit(f"expected an LSL stream {stream!r}, got none within 30 s: start the stimulus program first")
    inlet = pylsl.StreamInlet(found[0])
    run, began_s = 0, 0.0
    while not stop.is_set():
        sample, at_s = inlet.pull_sample(timeout=0.2)
        if sample is None:
            continue
        try:
            marker: dict[str, Any] = json.loads(sample[0])
            if "trial" not in marker:
                run, began_s = int(marker["run"]), at_s
                continue
            console.add_event(run, onset_s=round(at_s - began_s, 4), duration_s=marker.pop("duration_s"), **marker)
        except (ValueError, KeyError, TypeError, MindsightError) as error:
            print(f"not declared: {sample[0]} ({error})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Results as LSL markers; LSL markers as events.")
    parser.add_argument("session")
    parser.add_argument("--events-from", help="name of the stimulus program's LSL stream")
    given = parser.parse_args()
    url, key, stop = os.environ["MINDSIGHT_URL"], os.environ["MINDSIGHT_KEY"], threading.Event()
    with Console(url, key, session=given.session) as console:
        if given.events_from:
            threading.Thread(target=take_events, args=(console, given.events_from, stop), daemon=True).start()
        try:
            send_results(url, key, given.session)
        finally:
            stop.set()


if __name__ == "__main__":
    main()

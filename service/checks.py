"""The dry run of a session: what would keep it from being scanned and decoded, before anybody lies in the scanner.

Knows nothing of HTTP. Nothing is changed by it.
"""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field

from mindsight.errors import MindsightError
from mindsight.journal.sessions import Protocol
from mindsight.subjects.bundle.description import read_description
from mindsight.subjects.registry import Subject
from service.context import Gateway
from service.machine import WorkerState, bus_of, disk_of, workers_of
from service.routes.common import Body

State = Literal["ok", "warning", "failed"]
VOLUME_BYTES = 2 * 100 * 100 * 60  # of a usual volume, as it comes; ingest and archive keep about as much again
UNPLANNED_VOLUMES = 3000
LOW_BYTES, LEAST_BYTES = 10e9, 1e9
CLOCK_S, FAR_S = 0.5, 5.0
BUS_MS = 20.0
TR_DIFFERENCE = 0.001


class Check(Body):
    """One question of the dry run, and its answer."""

    name: Literal["subject", "scanner", "bus", "workers", "card", "disk", "clock", "bundle"]
    state: State = Field(description="ok; warning: it works, but; failed: the session would not work")
    text: str = Field(description="what was found and, unless it is ok, what to do")


def check_session(
    gateway: Gateway, subject: Subject, bundle: str | None, protocol: Protocol | None, client_t: float | None
) -> list[Check]:
    """bundle : that would decode it; None: nothing does. client_t : the clock of whoever asks, s since the epoch"""
    workers = _workers(gateway)
    return [
        _subject(gateway, subject, bundle),
        _scanner(gateway),
        _bus(gateway),
        _process(workers, bundle),
        _card(workers, bundle),
        _disk(gateway, protocol),
        _clock(gateway, client_t),
        _bundle(gateway, bundle, protocol),
    ]


def _subject(gateway: Gateway, subject: Subject, bundle: str | None) -> Check:
    use: Literal["decoding", "calibration"] = "calibration" if bundle is None else "decoding"
    try:
        subject.check_use("decoding", gateway.now())
    except MindsightError as error:
        return Check(name="subject", state="failed", text=str(error))
    if subject.consent is None:
        return Check(name="subject", state="warning", text="no consent is stated: it will be decoded, and nothing else")
    if use not in subject.consent.uses:
        return Check(name="subject", state="warning", text=f"the subject has not agreed to {use}")
    return Check(name="subject", state="ok", text=f"consent to {use}, form {subject.consent.form}")


def _scanner(gateway: Gateway) -> Check:
    settings = gateway.settings
    try:
        here_only = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        here_only = settings.host == "localhost"
    if here_only and not settings.behind_proxy:
        text = "volumes are taken from this machine only: run the stream command here, or put a proxy in front"
        return Check(name="scanner", state="warning", text=text)
    return Check(name="scanner", state="ok", text="volumes are taken from other machines, through the proxy")


def _bus(gateway: Gateway) -> Check:
    try:
        state = bus_of(gateway)
    except MindsightError as error:
        return Check(name="bus", state="failed", text=str(error))
    text = f"responds in {state.round_trip_ms:.1f} ms"
    if state.round_trip_ms > BUS_MS:
        return Check(name="bus", state="warning", text=f"{text}: put it on this machine, or end what keeps it busy")
    return Check(name="bus", state="ok", text=text)


def _workers(gateway: Gateway) -> list[WorkerState]:
    try:
        return [worker for worker in workers_of(gateway) if not worker.silent]
    except MindsightError:  # the bus, which has a check of its own
        return []


def _process(workers: list[WorkerState], bundle: str | None) -> Check:
    there = [worker.kind for worker in workers]
    missing = [kind for kind in ("ingest", "inference", "jobs") if kind not in there]
    if "ingest" in missing or ("inference" in missing and bundle is not None):
        text = f"no {' and no '.join(missing)} worker is there: start it with mindsight serve, or mindsight work"
        return Check(name="workers", state="failed", text=text)
    if missing:
        return Check(name="workers", state="warning", text=f"no {' and no '.join(missing)} worker is there")
    return Check(
        name="workers", state="ok", text=", ".join(f"{there.count(kind)} {kind}" for kind in sorted(set(there)))
    )


def _card(workers: list[WorkerState], bundle: str | None) -> Check:
    devices = sorted({worker.about for worker in workers if worker.kind == "inference"})
    if not devices:
        state: State = "ok" if bundle is None else "failed"
        return Check(name="card", state=state, text="no inference worker is there, and nothing is decoded without one")
    return Check(name="card", state="ok", text=f"decoding on {', '.join(devices)}")


def _disk(gateway: Gateway, protocol: Protocol | None) -> Check:
    free = disk_of(gateway).free_bytes
    volumes = UNPLANNED_VOLUMES
    if protocol is not None and protocol.n_volumes and protocol.n_runs:
        volumes = protocol.n_volumes * protocol.n_runs
    needed = 3 * VOLUME_BYTES * volumes
    text = f"{free / 1e9:.1f} GB free; a session of {volumes:,} volumes takes about {needed / 1e9:.1f} GB"
    if free < max(needed, LEAST_BYTES):
        return Check(name="disk", state="failed", text=f"{text}: free some")
    return Check(name="disk", state="warning" if free < LOW_BYTES else "ok", text=text)


def _clock(gateway: Gateway, client_t: float | None) -> Check:
    if client_t is None:
        return Check(name="clock", state="warning", text="not compared: the request does not state its own time")
    offset_s = gateway.now() - client_t
    text = f"this machine's clock and the service's differ by {abs(offset_s):.2f} s"
    if abs(offset_s) > FAR_S:
        return Check(name="clock", state="failed", text=f"{text}: let both follow the same time server")
    state: State = "warning" if abs(offset_s) > CLOCK_S else "ok"
    return Check(name="clock", state=state, text=text)


def _bundle(gateway: Gateway, bundle: str | None, protocol: Protocol | None) -> Check:
    if bundle is None:
        return Check(name="bundle", state="ok", text="none: motion, signal and betas, without decoding")
    try:
        described = read_description(gateway.settings.bundles_dir / bundle)
    except MindsightError as error:
        return Check(name="bundle", state="failed", text=str(error))
    if protocol is not None and abs(protocol.tr_s - described.tr_s) > TR_DIFFERENCE:
        text = f"calibrated at a TR of {described.tr_s:g} s, planned is {protocol.tr_s:g} s: plan the same TR"
        return Check(name="bundle", state="warning", text=text)
    if described.options.get("mode") == "fixed" and (protocol is None or protocol.n_volumes is None):
        text = "it decodes only runs whose number of volumes is declared: state it in the protocol"
        return Check(name="bundle", state="failed", text=text)
    text = f"{bundle}: pool of {described.pool.size:,}, TR {described.tr_s:g} s, digest {described.digest[:7]}"
    return Check(name="bundle", state="ok", text=text)

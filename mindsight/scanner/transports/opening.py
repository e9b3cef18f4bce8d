"""One line of text → the transport it names.

Knows only the names and options of the transports; each is imported on demand.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

from mindsight.errors import BadRequest
from mindsight.scanner.assembly.expected import Expected
from mindsight.scanner.echoes import parse_echo
from mindsight.scanner.transports.contract import Clock, Timeouts, Transport

EVERYWHERE = ("shape", "tr", "n", "moco", "echo", "idle", "late")
OPTIONS = {
    "watch": ("mode", "existing", "since", "whole"),
    "cstore": ("ae", "calling", "cert", "key", "ca", "stall"),
    "afni": ("data", "allow", "stall"),
    "murfi": ("allow", "stall"),
    "mrd": ("allow", "return", "stall"),
}


def open_transport(
    spec: str, *, clock: Clock, run: int = 1, triggers: str | None = None, spool: Path | None = None
) -> Transport:
    """Opens a transport. It listens at once; read its ``items``, and close it.

    spec : one of
        ``watch:/folder`` with ``mode`` (auto, events, polling), ``existing`` (1: read files that are there), ``since``
        (read files that changed later, nanoseconds since the Unix epoch), ``whole``
        ``cstore://host:port`` with ``ae`` (our title), ``calling`` (titles that may send, separated by commas),
        ``cert`` and ``key`` (PEM files: TLS), ``ca`` (PEM file: peers need a certificate from it)
        ``afni://host:port`` with ``data`` (port), ``allow`` (networks, separated by commas)
        ``murfi://host:port`` with ``allow``
        ``mrd://host:port`` with ``return`` (images: each is sent back unchanged; none), ``allow``
      and ``?name=value&...``, for all: ``shape`` (64x64x33), ``tr`` (seconds), ``n`` (volumes), ``moco`` (1: the
      scanner's motion-corrected series), ``echo`` (a number, or combine), ``idle``, ``late``, ``whole``, ``stall``
      (seconds, see ``Timeouts``). The host is 127.0.0.1 by default.
    run : number of the first run
    triggers : ``tcp://host:port`` to listen on for the scanner's pulses, one line of text each; with ``skip`` (pulses
        before that of the first volume: dummy scans), ``allow``
    spool : folder for acknowledged objects, also those of an earlier process (``cstore``)

    Raises BadRequest for unknown names or values, an address that it cannot listen on, or a missing folder.
    """
    scheme, _, rest = spec.partition(":")
    if scheme not in OPTIONS:
        _refuse(f"expected one of {', '.join(OPTIONS)} before the colon")
    target, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in (*EVERYWHERE, *OPTIONS[scheme]):
            _refuse(f"expected options out of {', '.join((*EVERYWHERE, *OPTIONS[scheme]))} for {scheme}")
    common: dict[str, Any] = {
        "clock": clock,
        "run": run,
        "expected": _expected(options),
        "timeouts": Timeouts(
            **{f"{name}_s": _seconds(options[name]) for name in ("idle", "late", "whole", "stall") if name in options}
        ),
        **({"spool": spool} if scheme == "cstore" else {}),
    }
    transport = _OPENERS[scheme](target, options, common)
    try:
        return transport if triggers is None else _triggered(transport, triggers, clock)
    except BadRequest:
        transport.close()
        raise


def planned_volumes(spec: str) -> int | None:
    """Number of volumes per run, if the transport states it (``n``). Raises like ``open_transport``."""
    return _expected(dict(parse_qsl(spec.partition("?")[2]))).n_volumes


def _triggered(transport: Transport, spec: str, clock: Clock) -> Transport:
    from mindsight.scanner.transports.triggers import Triggered

    scheme, _, rest = spec.partition(":")
    target, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    skip = options.get("skip", "0")
    if scheme != "tcp" or not set(options) <= {"skip", "allow"} or not re.match(r"^\d{1,4}$", skip):
        _refuse("expected triggers like tcp://127.0.0.1:15001, with skip (a number) and allow")
    host, port = _address(target, 15001)
    return Triggered(transport, host, port, clock=clock, skip=int(skip), allow=_networks(options))


def _watch(target: str, options: dict[str, str], common: dict[str, Any]) -> Transport:
    from mindsight.scanner.transports.watch import FolderWatch

    mode = options.get("mode", "auto")
    if mode not in ("auto", "events", "polling"):
        _refuse("expected mode to be auto, events or polling")
    if not target.removeprefix("//"):
        _refuse("expected a folder after watch:")
    since = options.get("since")
    if since is not None and not re.match(r"^\d{1,20}$", since):
        _refuse("expected since to be nanoseconds of the Unix epoch")
    return FolderWatch(
        Path(target.removeprefix("//")),
        mode=mode,  # type: ignore[arg-type]
        existing=options.get("existing") == "1",
        since_ns=None if since is None else int(since),
        **common,
    )


def _cstore(target: str, options: dict[str, str], common: dict[str, Any]) -> Transport:
    from mindsight.scanner.transports.cstore import CStoreReceiver

    host, port = _address(target, 11112)
    calling = [title for title in options.get("calling", "").split(",") if title]
    title = options.get("ae", "MINDSIGHT")
    return CStoreReceiver(host, port, ae_title=title, calling=calling, tls=_tls(options), **common)


def _afni(target: str, options: dict[str, str], common: dict[str, Any]) -> Transport:
    from mindsight.scanner.transports.afni_receiver import AfniReceiver

    host, port = _address(target, 7961)
    data_port = _address(f"//:{options.get('data', '7960')}", 7960)[1]
    return AfniReceiver(host, port, data_port, allow=_networks(options), **common)


def _murfi(target: str, options: dict[str, str], common: dict[str, Any]) -> Transport:
    from mindsight.scanner.transports.murfi import MurfiReceiver

    host, port = _address(target, 15000)
    return MurfiReceiver(host, port, allow=_networks(options), **common)


def _mrd(target: str, options: dict[str, str], common: dict[str, Any]) -> Transport:
    from mindsight.scanner.transports.mrd_receiver import MrdReceiver

    back = options.get("return", "images")
    if back not in ("images", "none"):
        _refuse("expected return to be images or none")
    host, port = _address(target, 9002)
    return MrdReceiver(host, port, allow=_networks(options), returns_images=back == "images", **common)


_OPENERS: dict[str, Callable[[str, dict[str, str], dict[str, Any]], Transport]] = {
    "watch": _watch,
    "cstore": _cstore,
    "afni": _afni,
    "murfi": _murfi,
    "mrd": _mrd,
}


def _refuse(message: str) -> NoReturn:
    raise BadRequest(f"transport: {message}", code="transport.spec")


def _address(target: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"tcp:{target}")
        port = default_port if parts.port is None else parts.port
    except ValueError:
        _refuse("expected //host:port")
    if parts.path.strip("/") or not target.startswith("//"):
        _refuse("expected //host:port")
    return parts.hostname or "127.0.0.1", port


def _expected(options: dict[str, str]) -> Expected:
    shape = None
    if "shape" in options:
        match = re.match(r"^(\d{1,3})x(\d{1,3})x(\d{1,3})$", options["shape"])
        if not match:
            _refuse("expected a shape like 64x64x33")
        shape = (int(match[1]), int(match[2]), int(match[3]))
    n = options.get("n")
    if n is not None and not re.match(r"^[1-9]\d{0,5}$", n):
        _refuse("expected n to be a number of volumes")
    return Expected(
        shape=shape,
        tr_s=_seconds(options["tr"]) if "tr" in options else None,
        n_volumes=None if n is None else int(n),
        motion_corrected=options.get("moco") == "1",
        echo=parse_echo(options.get("echo", "")),
    )


def _seconds(text: str) -> float:
    if not re.match(r"^\d{1,6}(\.\d{1,9})?$", text) or float(text) <= 0:
        _refuse("expected seconds above 0")
    return float(text)


def _networks(options: dict[str, str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(name) for name in options.get("allow", "").split(",") if name]
    except ValueError:
        _refuse("expected networks like 192.168.1.0/24 in allow")


def _tls(options: dict[str, str]) -> ssl.SSLContext | None:
    if "cert" not in options:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.get("ca"))
        context.load_cert_chain(options["cert"], options.get("key"))
    except OSError:
        _refuse("expected PEM files in cert, key and ca")
    if "ca" in options:
        context.verify_mode = ssl.CERT_REQUIRED
    return context

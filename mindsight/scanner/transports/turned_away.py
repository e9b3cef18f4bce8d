"""Why a DICOM sender was turned away, and what to do about it: the console itself shows a number at most.

Knows nothing of objects. Each reason is reported at its 1st, 10th, 100th... occurrence, since consoles keep retrying.
No report holds a title or an address of the sender.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mindsight.scanner.assembly.items import TransportWarning

NO_SUCH_CLASS, NO_SUCH_SYNTAX = 0x03, 0x04  # results of a presentation context, PS3.8 table 9-18
REQUEST, TLS_HELLO = 0x01, 0x16  # first byte of an A-ASSOCIATE-RQ (PS3.8 9.3.2), and of TLS


class TurnedAway:
    """Counts the reasons and reports them.

    warn : takes the warnings
    title : the AE title that senders must call
    images : SOP classes that are accepted
    """

    def __init__(self, warn: Callable[[TransportWarning], object], title: str, images: Sequence[str]) -> None:
        self._warn = warn
        self._title = title
        self._images = frozenset(images)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def report(self, code: str, text: str) -> None:
        with self._lock:
            self._counts[code] += 1
            count = self._counts[code]
        if str(count).strip("0") == "1":
            self._warn(TransportWarning(f"peer.{code}", text if count == 1 else f"{text} ({count} times by now)"))

    def first_byte(self, byte: int, *, by_tls: bool) -> None:
        """Reports a peer whose first byte is not that of DICOM."""
        if byte == REQUEST:
            return
        if byte == TLS_HELLO and not by_tls:
            text = "a sender uses TLS, which is not set up here; turn it off at the sender, or start with cert and key"
            self.report("tls", text)
        else:
            text = "disconnected a peer that does not send DICOM (a browser, another program?); check who uses the port"
            self.report("not_dicom", text)

    def handshake(self, reason: str) -> None:
        text = f"a sender did not connect by TLS ({reason}); turn TLS on there, with a certificate that `ca` knows"
        self.report("tls", text)

    def rejected(self, assoc: Any, calling: Sequence[str]) -> None:
        """Reports why an association was refused as a whole: its titles, or one association too many."""
        asked = assoc.requestor.primitive
        if asked is not None and str(asked.called_ae_title).strip() != self._title:
            text = f"a sender called another title than {self._title}; set {self._title} there, or start with ae=TITLE"
            self.report("called", text)
        elif asked is not None and calling and str(asked.calling_ae_title).strip() not in calling:
            self.report(
                "calling", "a sender's own title is not in `calling`; add it there, or correct it at the sender"
            )
        else:
            self.report("too_many", "too many associations at once; set the sender to use one after the other")

    def accepted(self, assoc: Any) -> None:
        """Reports an accepted association that offers no kind of object that can be taken."""
        taken = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
        refused = [
            (str(context.abstract_syntax), context.result)
            for context in assoc.rejected_contexts
            if str(context.abstract_syntax) not in taken
        ]
        if any(kind in self._images and result == NO_SUCH_SYNTAX for kind, result in refused):
            text = "a sender offers MR images only compressed (or big endian), which cannot be read"
            advice = "set it to send uncompressed: Implicit or Explicit VR Little Endian"
            self.report("compressed", f"{text}; {advice}")
        elif refused and not taken & self._images:
            text = "a sender offers only objects that are not MR images"
            self.report("other_class", f"{text}; set it to send MR Image Storage or Enhanced MR Image Storage")

    def malformed(self, first_byte: int) -> None:
        """Reports a peer that disconnected before it sent a readable request for an association."""
        if first_byte == REQUEST:
            self.report(
                "not_dicom", "disconnected a peer whose association request does not parse; check who uses the port"
            )

"""Why a DICOM sender was turned away, in words that say what to do: the console shows its operator a number at most.

Knows nothing of objects. Each reason is told when it first occurs, and again with every tenfold of it: a console tries
again and again. No title or address that a sender has comes into what is told.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mindsight.scanner.transports.contract import Trouble

NO_SUCH_CLASS, NO_SUCH_SYNTAX = 0x03, 0x04  # results of a presentation context, PS3.8 table 9-18
REQUEST, TLS_HELLO = 0x01, 0x16  # first byte of an A-ASSOCIATE-RQ (PS3.8 9.3.2), and of TLS


class TurnedAway:
    """Counts the reasons, and tells them.

    title : what senders have to call us
    images : SOP classes that are taken
    """

    def __init__(self, tell: Callable[[Trouble], object], title: str, images: Sequence[str]) -> None:
        self._tell = tell
        self._title = title
        self._images = frozenset(images)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def say(self, code: str, text: str) -> None:
        with self._lock:
            self._counts[code] += 1
            count = self._counts[code]
        if str(count).strip("0") == "1":
            self._tell(Trouble(f"peer.{code}", text if count == 1 else f"{text} ({count} times by now)"))

    def first_byte(self, byte: int, *, by_tls: bool) -> None:
        """What a peer began with; said where it is no DICOM."""
        if byte == REQUEST:
            return
        if byte == TLS_HELLO and not by_tls:
            self.say("tls", "a sender speaks TLS, which is not set up here; turn it off there, or give cert and key")
        else:
            self.say("not_dicom", "a peer sent bytes that are no DICOM (a web browser, another program?); disconnected")

    def handshake(self, reason: str) -> None:
        text = f"a sender did not come in by TLS ({reason}); turn TLS on there, with a certificate that `ca` knows"
        self.say("tls", text)

    def rejected(self, assoc: Any, calling: Sequence[str]) -> None:
        """An association was refused as a whole: by its titles, or as one too many."""
        asked = assoc.requestor.primitive
        if asked is not None and str(asked.called_ae_title).strip() != self._title:
            text = f"a sender called another title than {self._title}; set {self._title} there, or start with ae=TITLE"
            self.say("called", text)
        elif asked is not None and calling and str(asked.calling_ae_title).strip() not in calling:
            self.say("calling", "a sender's own title is none of those in `calling`; add it there, or correct it")
        else:
            self.say("too_many", "more associations at once than are taken; let the sender use one after the other")

    def accepted(self, assoc: Any) -> None:
        """An association that was let in, and of whose kinds of objects perhaps none can be taken."""
        taken = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
        refused = [
            (str(context.abstract_syntax), context.result)
            for context in assoc.rejected_contexts
            if str(context.abstract_syntax) not in taken
        ]
        if any(kind in self._images and result == NO_SUCH_SYNTAX for kind, result in refused):
            text = "a sender offers MR images in a compressed form only (or big endian), which cannot be read"
            advice = "let it send uncompressed: Implicit or Explicit VR Little Endian"
            self.say("compressed", f"{text}; {advice}")
        elif refused and not taken & self._images:
            text = "a sender offers no MR images but other kinds of objects, which are not taken"
            self.say("other_class", f"{text}; let it send MR Image Storage or Enhanced MR Image Storage")

    def malformed(self, first_byte: int) -> None:
        """A peer left, or was left, without having asked for an association in a way that can be read."""
        if first_byte == REQUEST:
            self.say("not_dicom", "a peer's request for an association does not parse; disconnected")

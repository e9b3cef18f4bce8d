"""Where something is named that is erased: how a check finds it, and takes no other word for it."""

from __future__ import annotations

import re
from collections.abc import Sequence

# BIDS's forms, and Mindsight's own: no other word is like them
_TELLING = re.compile(r"(ses|sub)-.*\d.*|ses-[0-9a-f]{8}|ses\d.*")
_BEFORE = (
    r'\{|fence:|sessions?[ /]|sub-[a-z0-9]{6}_|(?:session|live|source)\\?": ?\\?"|sessions\\?": ?\[(?:[^\]]*,)? ?\\?"'
)
_AFTER = r"(?:-archive|-[0-9]+-[0-9]+-[a-z]+|-run-[0-9]+-series)?(?![A-Za-z0-9_-])"
# of a job's key, of a sealed log, of a snapshot and its series
_WHOLE = r"(?:-[0-9]+-[0-9]+-[a-z]+|\.[a-z]+\.jsonl\.z|(?:-run-[0-9]+-series)?\.safetensors(?:\..*)?)"


class Named:
    """Finds the names of what is erased: as words of their own, and not within others' (``a-1`` in ``a-1-b``).

    A site may name a session ``1`` or ``demo``. Such a word is found where a session is named and nowhere else:
    elsewhere it means something else. A subject's pseudonym means nothing else, whatever its letters are.
    """

    def __init__(self, sessions: Sequence[str], others: Sequence[str], subject: str | None = None) -> None:
        telling = [name for name in sessions if _TELLING.fullmatch(name)]
        plain = [name for name in sessions if name not in telling]
        if subject is not None:
            telling.append(subject)
        longer = [other for other in others if any(name in other for name in (*telling, *plain))]
        forms = [rf"(?<![A-Za-z0-9])(?:{_any(telling)})(?![A-Za-z0-9])"] if telling else []
        if plain:
            forms += [rf"(?:{_BEFORE})(?:{_any(plain)}){_AFTER}", rf"^(?:{_any(plain)}){_WHOLE}$"]
        wanted = f"({'|'.join(forms)})"
        self._pattern = re.compile((rf"(?:{_any(longer)})|{wanted}" if longer else wanted).encode())

    def __call__(self, content: bytes) -> bool:
        return any(match[1] is not None for match in self._pattern.finditer(content))


def _any(words: Sequence[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))

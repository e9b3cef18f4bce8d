from __future__ import annotations

import time

FASTER = 40.0
_now_s = 0.0


def wait(secs: float) -> None:
    global _now_s
    time.sleep(secs / FASTER)
    _now_s += secs


class Clock:
    def __init__(self) -> None:
        self._began_s = _now_s

    def getTime(self) -> float:
        return _now_s - self._began_s

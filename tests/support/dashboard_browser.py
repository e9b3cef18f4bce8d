"""One page in a headless Chromium, with its console output, requests and responses. Knows nothing of what is on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a card: the brain
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
SIZES = [(3840, 2160), (1920, 1080), (1440, 900), (1366, 768), (1280, 720)]


@dataclass
class Tab:
    """One page, with its console output, requests and responses."""

    page: Any
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Tab]:
        handlers: dict[str, Callable[[Any], None]] = {
            "console": lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None,
            "pageerror": lambda error: self.problems.append(str(error)),
            "request": lambda request: self.requests.append(request.url),
            "websocket": lambda ws: ws.on("framereceived", lambda f: self.frames.append(str(f))),
        }
        for event, handler in handlers.items():
            self.page.on(event, handler)
        yield self
        for event, handler in handlers.items():
            self.page.remove_listener(event, handler)

    def until(self, javascript: str, deadline_s: float = 120.0) -> None:
        """Waits until an expression holds, by default for two minutes: the page's policy forbids Playwright's own."""
        deadline = time.monotonic() + deadline_s
        while not self.page.evaluate(javascript):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {deadline_s:g} s: {javascript}")
            self.page.wait_for_timeout(30)

    def until_message(self, n: int) -> None:
        """Waits until the Live page shows what follows from the first ``n`` messages."""
        self.until(f"document.querySelector('.live')?.dataset.last === '{n}'")
        self.page.evaluate(TWO_FRAMES)

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

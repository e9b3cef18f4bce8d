"""What a long task reports while it runs: kept, and checked as a person would read it."""

from __future__ import annotations


class Reported:
    """A ``shares.Report``."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, float]] = []

    def __call__(self, what: str, done: float) -> None:
        self.lines.append((what, done))

    @property
    def whats(self) -> list[str]:
        """What was named, in its order, each once."""
        return list(dict.fromkeys(what for what, _ in self.lines))

    def check(self, n_lines: int = 3) -> None:
        """It never goes back, comes near its end, and leaves the end to the result."""
        shares = [done for _, done in self.lines]
        assert len(shares) >= n_lines
        assert shares == sorted(shares)
        assert 0.5 < shares[-1] < 1.0

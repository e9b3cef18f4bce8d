"""What people ask of the process that has a session's state, and its answers: small, short-lived, lost without harm.

Knows nothing of what is asked. A question that is not answered in time is forgotten; the same one asked again within
``KEEP_S`` of its answer has that answer, so that many who look at one thing ask once.
"""

from __future__ import annotations

from dataclasses import dataclass

from mindsight.bus.connection import Bus, Script

MOST = 8  # questions that wait at a time, of one session
WAIT_S = 5
KEEP_S = 2

# KEYS: questions; ARGV: most, seconds until they are forgotten, question
_ASK = Script("""
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], ARGV[3], '')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
""")
# KEYS: questions
_TAKE = Script("""
local asked = redis.call('HKEYS', KEYS[1])
if #asked > 0 then redis.call('DEL', KEYS[1]) end
return asked
""")


@dataclass(frozen=True)
class Questions:
    """Of one session. Raises BusUnavailable, StorageFull as the bus does."""

    bus: Bus
    session: str

    def ask(self, question: str) -> None:
        """The newest questions win: those that wait are dropped when there are too many."""
        self.bus.run(_ASK, [self._key], [MOST, WAIT_S, question])

    def take(self) -> list[str]:
        """The questions that wait, each handed out once."""
        return [question.decode() for question in self.bus.run(_TAKE, [self._key], [])]

    def answer(self, question: str, payload: bytes) -> None:
        self.bus.command("SET", self._answer_key(question), payload, "EX", KEEP_S)

    def read(self, question: str) -> bytes | None:
        """The answer, if there is one that is not older than ``KEEP_S``."""
        found: bytes | None = self.bus.command("GET", self._answer_key(question))
        return found

    @property
    def _key(self) -> str:
        return f"s:{{{self.session}}}:questions"

    def _answer_key(self, question: str) -> str:
        return f"s:{{{self.session}}}:answer:{question}"

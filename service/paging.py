"""Lists in pages: ``limit`` and ``after``, and a ``Link`` header that leads to the next page (RFC 8288).

Knows nothing of what is listed. A list stays a list: who asks for no page gets all of it, as clients of old expect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response

from mindsight.errors import NotFound

T = TypeVar("T")
MOST = 1000

Limit = Annotated[int | None, Query(ge=1, le=MOST, description="entries of one page, at most; by default all")]

NEXT_PAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Link": {
                "description": 'address of the next page, as <...>; rel="next"; absent from the last page',
                "schema": {"type": "string"},
            }
        }
    }
}
"""For the description of a route that lists."""


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for."""

    limit: int | None
    after: str | None
    request: Request
    response: Response

    def of(self, entries: Sequence[T], name: Callable[[T], str]) -> list[T]:
        """The page, and a link to the next one. Raises NotFound (``cursor.unknown``)."""
        start = 0
        if self.after is not None:
            start = 1 + next((at for at, entry in enumerate(entries) if name(entry) == self.after), -1)
            if start == 0:
                raise NotFound(
                    "expected the name of an entry of this list as cursor, got another; start again without it",
                    code="cursor.unknown",
                )
        limit = len(entries) if self.limit is None else self.limit
        found = list(entries[start : start + limit])
        if start + limit < len(entries):
            query = urlencode({**self.request.query_params, "limit": limit, "after": name(found[-1])})
            self.response.headers["Link"] = f'<{self.request.url.path}?{query}>; rel="next"'
        return found


async def _page(
    request: Request,
    response: Response,
    limit: Limit = None,
    after: Annotated[
        str | None, Query(max_length=200, description="name of the last entry that the client has")
    ] = None,
) -> Page:
    return Page(limit, after, request, response)


PageDependency = Annotated[Page, Depends(_page)]

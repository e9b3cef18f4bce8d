"""The dashboard's files. One that is kept packed (``x.js.gz``) is served under its own name, for browsers to unpack.

Knows nothing of what is in them.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_MEDIA_TYPE = "text/javascript"


class PackedFiles(StaticFiles):
    """Every browser unpacks gzip, so that a large library takes a third of its room here and on the way."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or not path.endswith(".js"):
                raise
        response = await super().get_response(f"{path}.gz", scope)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Type"] = _MEDIA_TYPE
        return response

"""The gateway: REST, WebSocket, SSE and the dashboard's files. Knows nothing of decoding."""

from service.app import create_app

__all__ = ["create_app"]

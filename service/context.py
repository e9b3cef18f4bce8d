"""What every route works with. Knows nothing of HTTP except how a route reaches it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

from anyio import CapacityLimiter
from fastapi import Depends
from starlette.requests import HTTPConnection

from mindsight.blobs import open_blobs, open_shown
from mindsight.bus import Bus
from mindsight.errors import BadRequest
from mindsight.journal.declare import Recorder
from mindsight.journal.jobs import Jobs
from mindsight.journal.read import Journal
from mindsight.journal.replies import Replies
from mindsight.journal.sessions import Sessions
from mindsight.protocol import Message, Reconstruction
from mindsight.protocol.stream import LatestHeader
from mindsight.settings import Settings
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import VersionStore
from service.hub import Hub
from service.keys import KeyStore
from service.lanes import Made, Source
from service.metrics import Meter
from service.pictures import Pictures
from service.rates import Buckets
from service.view_store import Views

if TYPE_CHECKING:
    from service.oidc import Issuer
    from service.sign_in import SignIn

REQUESTS_S, REQUEST_BURST = (
    50.0,
    500.0,
)  # of one key, volumes not counted; a page that is opened loads its images at once
STREAMS_S, STREAM_BURST = 100.0, 2000.0  # of one key: a thousand watchers come back at once after an outage
WRONG_KEYS_S, WRONG_KEY_BURST = 1.0, 100.0  # from one address
READERS = 2  # of whole logs at a time: they compete with volumes for the processor


class Gateway:
    """The parts, made from the settings; the bus may come up later."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bus = Bus.from_settings(settings)
        self.blobs, self.shown = open_blobs(settings), open_shown(settings)
        self.registry = Registry(settings.subjects_dir)
        self.sessions = Sessions(self.bus)
        self.jobs = Jobs(self.bus, self.now)
        self.replies = Replies(self.bus, self.now)
        self.versions = VersionStore(settings.versions_dir, settings.bundles_dir, self.registry)
        self.issuer = _issuer(settings)
        self.keys = KeyStore(settings.data_dir, None if self.issuer is None else self.issuer.check)
        self.sign_in = _sign_in(settings, self.issuer, self.keys)
        self.pictures, self.shown_pictures = Pictures(self.blobs), Pictures(self.shown)
        self.hub = Hub(self.bus)
        self.hub.add_source("pictures", Source(frozenset({"reconstruction"}), self._reconstruction))
        self.meter = Meter(self.bus, settings.data_dir)
        self.requests = Buckets(REQUESTS_S, REQUEST_BURST)
        self.streams = Buckets(STREAMS_S, STREAM_BURST)
        self.wrong_keys = Buckets(WRONG_KEYS_S, WRONG_KEY_BURST)
        self.reading = CapacityLimiter(READERS)
        self.views = Views()

    def now(self) -> float:
        return time.time()

    def journal(self, session: str) -> Journal:
        return Journal(self.bus, session)

    def recorder(self, session: str) -> Recorder:
        return Recorder(self.bus, session, self.now)

    def _reconstruction(self, session: str, message: Message) -> Made | None:
        """An item of the lane of pictures. Never of what was shown: that is in another store."""
        assert isinstance(message, Reconstruction)
        picture = self.pictures.get(message.image)
        if picture is None:
            return None
        header = LatestHeader(
            lane="pictures",
            message=message.id,
            t=self.now(),
            media_type=picture.media_type,
            details={"image": message.image, "run": message.run, "trial": message.trial, "stage": message.stage},
        )
        return header, picture.payload


def _issuer(settings: Settings) -> Issuer | None:
    """The site's identity provider, whose tokens are taken beside keys; imported only where there is one."""
    if not settings.oidc_issuer:
        return None
    from service.oidc import Issuer

    return Issuer(settings)


def _sign_in(settings: Settings, issuer: Issuer | None, keys: KeyStore) -> SignIn | None:
    if not settings.oidc_client:
        return None
    if issuer is None:
        raise BadRequest(
            "expected MINDSIGHT_OIDC_ISSUER beside MINDSIGHT_OIDC_CLIENT, got none: set both or neither",
            code="settings.invalid",
        )
    from service.sign_in import SignIn

    return SignIn(settings, issuer, keys)


async def _gateway(connection: HTTPConnection) -> Gateway:
    gateway: Gateway = connection.app.state.gateway
    return gateway


GatewayDependency = Annotated[Gateway, Depends(_gateway)]

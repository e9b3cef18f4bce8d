"""The page of the interface: drawn from the service's own descriptions, with nothing from elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import uvicorn

from mindsight.settings import Settings
from service.__main__ import listen
from service.app import create_app
from support.dashboard_browser import SIZES, Tab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway without a bus: the descriptions need none."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("docs"), port=0, redis_url="redis://127.0.0.1:1")
    listener = listen(settings)
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


def test_the_interface_is_a_page_of_its_own(tab: Tab, url: str) -> None:
    tab.page.goto(f"{url}/docs")
    tab.until("document.querySelectorAll('main > section > details').length > 40")
    assert {urlsplit(request).netloc for request in tab.requests} == {urlsplit(url).netloc}
    for width, height in [*SIZES, (700, 900)]:
        tab.page.set_viewport_size({"width": width, "height": height})
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    tab.page.fill("#filter", "idempotency consent")
    assert tab.page.locator("main > section > details:visible").count() < 20
    tab.page.locator("#POST-v1-subjects > summary").click()
    text = tab.page.locator("#POST-v1-subjects").inner_text()
    assert "Needs a key with the scope subjects:write" in text
    assert "what the subject's data may be used for" in text
    assert tab.problems == []

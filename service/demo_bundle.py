"""The subject bundle that ships, put among those of this data folder: it decodes the simulated participant.

Knows nothing of its content.
"""

from __future__ import annotations

import secrets
import shutil

from mindsight import assets
from mindsight.files.durable import make_folder, publish_folder
from mindsight.settings import Settings

DEMO = "demo"


def install_demo_bundle(settings: Settings) -> str:
    """Its name; it is there when this returns. Raises StorageFull."""
    folder = settings.bundles_dir / DEMO
    if not folder.exists():
        make_folder(settings.bundles_dir)
        partial = settings.bundles_dir / f"{DEMO}.{secrets.token_hex(4)}.partial"
        try:
            shutil.copytree(assets.BUNDLE, partial)
            publish_folder(partial, folder)
        except OSError:
            if not folder.exists():  # otherwise another request was faster
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return DEMO

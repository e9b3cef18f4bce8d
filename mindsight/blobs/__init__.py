"""Content-addressed durable payloads: in a folder, or in a bucket of an S3-compatible server."""

from mindsight.blobs.opening import open_blobs, open_shown
from mindsight.blobs.protocol import Blobs, BlobWriter, Stored
from mindsight.blobs.store import BlobStore

__all__ = ["BlobStore", "BlobWriter", "Blobs", "Stored", "open_blobs", "open_shown"]

"""Content-addressed durable files."""

from mindsight.blobs.store import BlobStore, BlobWriter

__all__ = ["BlobStore", "BlobWriter"]

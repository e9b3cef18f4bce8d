"""Files that survive: written durably, named by their digest, proved by a manifest.

Knows nothing of what the files mean. The base install has this room: the standard library alone, but for ``images``
and ``arrays``.
"""

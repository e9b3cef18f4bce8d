"""Who is enrolled (``registry``), and what decodes each (``bundle``).

Imports neither: the gateway needs the registry, and must not load what the bundle needs.
"""

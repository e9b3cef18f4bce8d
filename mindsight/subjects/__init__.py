"""Enrolled subjects (``registry``), and the bundles that decode them (``bundle``).

Imports neither: the gateway needs the registry, and must not load the packages that a bundle needs.
"""

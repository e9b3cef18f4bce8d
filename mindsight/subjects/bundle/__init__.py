"""A subject bundle in parts, each loaded where it is needed: description, space, decoder, pool, and the whole (folder).

Imports none of them: the gateway reads the description only.
"""

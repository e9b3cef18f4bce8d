"""A subject bundle in parts, each loaded by who needs it: description, space, decoder, pool.

Imports none of them: the gateway reads the description only.
"""

"""Decoders trained over many participants."""

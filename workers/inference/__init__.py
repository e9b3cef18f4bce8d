"""Betas from the work queue → retrievals, reconstructions, captions."""

"""Captions: image tokens in, a sentence out, by MindEye2's token converter and GIT's text decoder.

Knows nothing of betas, images or sessions.
"""

from mindsight.captions.captioner import Captioner
from mindsight.captions.converter import TokenConverter
from mindsight.captions.git import GitDecoder, GitLayout

__all__ = ["Captioner", "GitDecoder", "GitLayout", "TokenConverter"]

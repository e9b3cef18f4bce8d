"""Captions compared with reference captions: shared words, and words in the same order.

ROUGE (C.-Y. Lin, Text Summarization Branches Out, ACL 2004): words are runs of letters and digits, in lower case, not
stemmed; of several references the best counts. METEOR and the sentence encoders of the published tables need data and
weights of their own and are not included. K is the number of images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from mindsight.errors import BadRequest
from mindsight.evaluation.metrics.metric import Metric, Score

ROUGE_1 = Metric("caption_rouge1", "captions, ROUGE-1")
ROUGE_L = Metric("caption_rougeL", "captions, ROUGE-L")


def rouge_1(references: Sequence[Sequence[str]], captions: Sequence[str]) -> Score:
    """F1 of the words that caption and reference share, with their counts.

    references : one or more captions for each of K images

    Raises BadRequest (``captions.count``) if the numbers of images differ, or an image has no reference.
    """
    return _best(ROUGE_1, _shared, references, captions)


def rouge_l(references: Sequence[Sequence[str]], captions: Sequence[str]) -> Score:
    """F1 of the longest common subsequence of words; otherwise as ``rouge_1``."""
    return _best(ROUGE_L, _in_order, references, captions)


def _best(
    metric: Metric,
    common: Callable[[list[str], list[str]], int],
    references: Sequence[Sequence[str]],
    captions: Sequence[str],
) -> Score:
    if len(references) != len(captions) or not all(references):
        raise BadRequest(
            f"expected one or more captions of each of {len(captions)} images, got {len(references)}",
            code="captions.count",
        )
    pairs = zip(references, captions, strict=True)
    return Score(
        metric, np.array([max(_f1(_words(one), _words(caption), common) for one in of) for of, caption in pairs])
    )


def _f1(reference: list[str], caption: list[str], common: Callable[[list[str], list[str]], int]) -> float:
    n = len(reference) + len(caption)
    return 2.0 * common(reference, caption) / n if n else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _shared(a: list[str], b: list[str]) -> int:
    return (Counter(a) & Counter(b)).total()


def _in_order(a: list[str], b: list[str]) -> int:
    longest = [0] * (len(b) + 1)  # common to the words of a so far and the first n of b
    for word in a:
        before = 0
        for i, other in enumerate(b, 1):
            before, longest[i] = (
                longest[i],
                before + 1 if word == other else max(longest[i], longest[i - 1]),
            )
    return longest[-1]

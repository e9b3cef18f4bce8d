"""The names of a run's files: which files are one series, which number counts, which files a program derived.

Knows nothing of the files' content. Names may identify a person: they choose and order files, and no part of them goes
anywhere else.

Programs write their results beside the originals: SPM with letters before the name (r resliced, a slice-time corrected,
u unwarped, w normalised, s smoothed, mean), FSL and AFNI with words after it (_mcf, _st, _mean; .tshift, .volreg,
.blur).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mindsight.scanner.echoes import Echo

_SPM_LETTERS = {
    "mean": "mean",
    "s": "smoothed",
    "w": "normalised",
    "u": "unwarped",
    "r": "resliced",
    "a": "slice-time corrected",
    "m": "bias-corrected",
    "c": "segmented",
    "y": "deformed",
}
_SPM = re.compile(r"^(?:mean|s\d{0,2}|w[cmp]?|c[1-6]|[uramy])+")
_WORDS = {  # word in a name → rank in the order of processing, and the name of the step
    **dict.fromkeys(("tcat", "trim"), (1, "trimmed")),
    **dict.fromkeys(("despike", "despiked"), (2, "despiked")),
    **dict.fromkeys(("st", "stc", "tshift", "slicetimed"), (3, "slice-time corrected")),
    **dict.fromkeys(("mcf", "mc", "moco", "volreg", "realigned", "vr"), (4, "realigned")),
    **dict.fromkeys(("unwarped", "topup", "warped", "warp"), (5, "unwarped")),
    **dict.fromkeys(("reg", "registered"), (5, "registered")),
    **dict.fromkeys(("blur", "smooth", "smoothed", "susan"), (6, "smoothed")),
    **dict.fromkeys(("scale", "scaled", "tempfilt", "filtered", "intnorm"), (7, "filtered")),
    **dict.fromkeys(("brain", "bet", "ss"), (8, "brain-extracted")),
    **dict.fromkeys(("mean", "meanvol", "meants", "tmean", "variance", "sigma", "std", "median"), (9, "mean")),
    **dict.fromkeys(("mask", "automask"), (10, "mask")),
}
_SUFFIX = re.compile(rf"[._-](?:{'|'.join(sorted(_WORDS, key=len, reverse=True))})(?=(?:[._-]#)*$)", re.IGNORECASE)
_DERIVED = re.compile(
    r"_(?:desc|space|res|den)-[A-Za-z0-9#+]+"
)  # BIDS' entities for derivatives of fMRIPrep and others
_NO_RUN = {  # last words of the names of files that are not a run
    **dict.fromkeys(("sbref", "boldref", "ref"), "reference"),
    **dict.fromkeys(("mask", "brainmask", "automask"), "mask"),
    **dict.fromkeys(("t1w", "t2w", "t1", "t2", "flair", "mprage", "anat", "uni"), "anatomical"),
    **dict.fromkeys(
        ("magnitude", "magnitude1", "magnitude2", "phasediff", "phase1", "phase2", "fieldmap"), "field map"
    ),
    **dict.fromkeys(("ph", "phase", "part-phase", "imaginary", "real"), "phase"),
}
MAX_LETTERS = 9  # of SPM's, before a name

_ECHO = re.compile(r"(?<![a-z0-9])(?:echo[-_]?|e)(\d{1,2})(?![a-z0-9])", re.IGNORECASE)
_SPM_ECHO = re.compile(r"^(.*-\d{4}-\d{5}-\d{6})-(\d{2})$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Named:
    """One file.

    file_number : in the order of names, from 1
    stem : name without its ending and without the echo
    echo : stated by the name
    """

    file_number: int
    stem: str
    echo: Echo


def named(file_number: int, stem: str) -> Named:
    """A file, with the echo that its name states in the style of BIDS, dcm2niix, SPM or AFNI."""
    spm = _SPM_ECHO.match(stem)
    if spm is not None:
        return Named(file_number, spm[1], Echo(int(spm[2])))
    match = _ECHO.search(stem)
    if match is None:
        return Named(file_number, stem, Echo())
    return Named(file_number, stem[: match.start(1)] + "#" + stem[match.end(1) :], Echo(int(match[1])))


def originals(files: Sequence[Named]) -> tuple[list[Named], list[str]]:
    """The files that no program derived from the others, and the kind of each file that is left out."""
    by_pattern: dict[str, list[Named]] = defaultdict(list)
    for file in files:
        by_pattern[_blank(file.stem)].append(file)
    made = {pattern: _made(pattern, by_pattern) for pattern in by_pattern}
    kept = [file for pattern, members in by_pattern.items() if made[pattern] is None for file in members]
    if not kept:
        return list(files), []
    return kept, [kind for pattern, kind in made.items() if kind is not None for _ in by_pattern[pattern]]


def made_beside(stem: str, exists: Callable[[str], bool]) -> str | None:
    """The processing step by which a program derived this image from one beside it; None for an original.

    exists : whether there is an image of this name, without its ending
    """
    for length in range(1, min(len(stem), MAX_LETTERS)):
        if _SPM.fullmatch(stem[:length].lower()) and exists(stem[length:]):
            return _letters(stem[:length])
    base, rank, kind = _stripped(stem)
    return kind if rank and exists(base) else None


def _blank(stem: str) -> str:
    return re.sub(r"\d+", "#", stem)


def _made(pattern: str, patterns: Mapping[str, object]) -> str | None:
    """The processing step by which a program derived files of this name from the others; None for originals."""
    others = [one for one in patterns if one != pattern]
    for other in others:
        before = pattern[: -len(other)] if pattern.endswith(other) else ""
        if before and _SPM.fullmatch(before.replace("#", "6").lower()):
            return _letters(before)
    if (plain := _DERIVED.sub("", pattern)) != pattern and plain in others:
        return "derived"
    base, rank, kind = _stripped(pattern)
    for other in others:
        if other == base or (rank and _stripped(other)[0] == base and _stripped(other)[1] < rank):
            return kind
    if pattern.lower().startswith("mean"):
        rest = pattern[len("mean") :]
        ends = (one[: -len(rest)] for one in others if rest and one.endswith(rest))
        if any(_SPM.fullmatch(end.replace("#", "6").lower()) for end in ends):
            return "mean"
    is_alone = all(_last_word(other) in _NO_RUN for other in others)
    return None if is_alone else _NO_RUN.get(_last_word(pattern))


def _last_word(pattern: str) -> str:
    """The last word of a name, without the number of the series or image after it (dcm2niix: ``ep2d_SBRef_4``)."""
    last = re.split(r"[._]", re.sub(r"(?:[._-]#)+$", "", pattern).replace("#", "1"))[-1].lower()
    return last if last in _NO_RUN else re.sub(r"\d+$", "", last)


def _letters(before: str) -> str:
    if before.lower().startswith("mean"):
        return "mean"
    return _SPM_LETTERS.get(before[0].lower(), "processed")


def _stripped(pattern: str) -> tuple[str, int, str]:
    """A name without the words of FSL and AFNI at its end, with the rank and the name of its last processing step."""
    rank, kind = 0, ""
    while match := _SUFFIX.search(pattern):
        step, word = _WORDS[match[0][1:].lower()]
        rank, kind = rank + step, kind or word
        pattern = pattern[: match.start()] + pattern[match.end() :]
    return pattern, rank, kind


def runs_of(files: Sequence[Named]) -> list[dict[int, Named]]:
    """The files of each run by number; a file without a number is a run of its own."""
    by_pattern: dict[str, list[Named]] = defaultdict(list)
    for file in files:
        by_pattern[_blank(file.stem)].append(file)
    found: list[dict[int, Named]] = []
    for members in by_pattern.values():
        columns = [[int(number) for number in re.findall(r"\d+", file.stem)] for file in members]
        varying = [k for k in range(len(columns[0])) if len({row[k] for row in columns}) > 1]
        if not varying:
            found += [{0: file} for file in members]
            continue
        count = varying[-1]
        # Another number that rises with it (SPM: acquisition and image) does not distinguish runs.
        apart = [k for k in varying[:-1] if not _in_step([(row[k], row[count]) for row in columns])]
        groups: dict[tuple[int, ...], dict[int, Named]] = defaultdict(dict)
        for row, file in zip(columns, members, strict=True):
            groups[tuple(row[k] for k in apart)].setdefault(row[count], file)
        found += groups.values()
    return found


def _in_step(pairs: list[tuple[int, int]]) -> bool:
    return all(before[0] < after[0] and before[1] < after[1] for before, after in pairwise(sorted(pairs)))


def indices(numbers: Sequence[int]) -> tuple[dict[int, int], str | None]:
    """Index of each number in the run, and a note about a gap, or about numbers that do not count volumes.

    The numbers may go up by more than one: by the slices of a volume.
    """
    ordered = sorted(numbers)
    steps = [after - before for before, after in pairwise(ordered)]
    step = math.gcd(*steps) if len(steps) > 1 else 1
    counts = 2 * steps.count(step) >= len(steps) > 1  # most numbers follow one another, so the other steps are gaps
    found = {number: (number - ordered[0]) // step for number in ordered}
    n_missing = found[ordered[-1]] + 1 - len(ordered)
    if n_missing > len(ordered) and not counts:
        return (
            {number: index for index, number in enumerate(ordered)},
            "the numbers in the files' names do not count volumes; the files are taken in order, without gaps",
        )
    missing = "1 volume is" if n_missing == 1 else f"{n_missing} volumes are"
    note = (
        f"{missing} missing: the numbers in the file names have a gap; copy the missing files if they exist"
        if n_missing
        else None
    )
    return found, note

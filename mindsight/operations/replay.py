"""A recorded run replayed as if the scanner sent it now: volumes in, results out as they are ready.

Knows nothing of the service: ingest and decoding run in this process, with the workers' own code. A result depends on
no volume after it.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mindsight.accuracy import Accuracy
from mindsight.decoding import TrialDecoder
from mindsight.errors import BadRequest, BadVolume, StorageFull
from mindsight.events import Note, unmeasured
from mindsight.ingest import IngestSession
from mindsight.ingest.feed import Trials, fill_gap, number_trials, start_run
from mindsight.ingest.outputs import TrialBeta
from mindsight.moved import old_names
from mindsight.scanner import RecordedRun
from mindsight.scanner.echoes import EchoChoice
from mindsight.scanner.recording import open_run
from mindsight.subjects.bundle.folder import Bundle
from mindsight.volume import Volume

_MAX_SCORES = 100


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """One result, one line of the file.

    label : what was shown; None if the events do not state it
    predicted : the first candidate
    correct : None without a label
    scores : candidate to cosine, best first, at most 100
    n_volumes : volumes of the run that it is based on
    latency_ms : ``beta`` from the volume's arrival (for ``final``, from the end of the run) to the beta, ``decode`` and
        ``retrieve`` of this result, ``total`` from arrival to result
    """

    run: int
    trial: int
    stage: str
    onset_s: float
    label: str | None
    predicted: str
    correct: bool | None
    confidence: float
    null_confidence: float
    chance: float
    scores: dict[str, float]
    n_volumes: int
    flagged: bool
    normalised_by: str
    model: str
    pool: str
    latency_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a replay: run, volumes, seconds it took, number of results, accuracy by stage."""

    run: int
    n_volumes: int
    seconds: float
    n_results: int
    accuracy: dict[str, Accuracy]

    def __str__(self) -> str:
        head = f"run {self.run}: {self.n_volumes} volumes in {self.seconds:.1f} s, {self.n_results} results"
        return "\n".join([head, *(f"{stage:>8}: {accuracy}" for stage, accuracy in self.accuracy.items())])


def replay(
    run: Path,
    bundle: Path,
    *,
    speed: float,
    results: Path | None,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    echo: EchoChoice = None,
) -> Summary:
    """Stream a recorded run through ingest and decoding, and write each result when it is ready.

    run : its folder, see ``open_run``; an unreadable volume is reported and missing. A number at the end of the
        folder's name is the run's number
    bundle : folder of the bundle
    speed : times the run's own pace; infinity for as fast as possible
    echo : which of several echoes, or all combined, see ``read_series``
    results : file for JSON lines, one ``ReplayResult`` each, which is replaced; None writes none
    clock : seconds, monotonic
    sleep : waits for a number of seconds

    Raises BadRequest (``replay.speed``), StorageFull when the results cannot be written, and what reading the run and
    the bundle raises.
    """
    number = re.search(r"(\d{1,9})$", run.resolve().name)
    recorded = open_run(run, max(1, int(number[1])) if number else 1, on_bad=_print_skipped, echo=echo)
    loaded = Bundle.load(bundle)
    hits: dict[str, list[bool]] = {}
    n_results, began_s = 0, clock()
    with ExitStack() as stack:
        file = None if results is None else stack.enter_context(_opened(results))
        for result in replay_results(recorded, loaded, speed=speed, clock=clock, sleep=sleep):
            n_results += 1
            if result.correct is not None:
                hits.setdefault(result.stage, []).append(result.correct)
            if file is not None:
                _write(file, result)
    accuracy = {stage: Accuracy.of(right, 1.0 / len(loaded.pool)) for stage, right in hits.items()}
    return Summary(recorded.run, recorded.n_volumes, clock() - began_s, n_results, accuracy)


def replay_results(
    recorded: RecordedRun,
    bundle: Bundle,
    *,
    speed: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[ReplayResult]:
    """The results of a replayed run, each as soon as its last volume is in. Parameters as in ``replay``."""
    if not speed > 0.0:
        raise BadRequest(f"expected a speed above 0, or max, got {speed!r}", code="replay.speed")
    trials = number_trials(recorded.events, bundle.labels)
    _print_notes((*recorded.notes, *trials.notes))
    session = IngestSession(bundle.options, bundle.space, bundle.statistics, baseline=bundle.baseline, clock=clock)
    decoder = TrialDecoder(bundle, clock=clock, n_candidates=_MAX_SCORES)
    start_run(session, recorded, trials.events)
    began_s = clock()
    for volume in recorded.volumes():
        due_s = began_s + (volume.index + 1) * recorded.tr_s / speed
        if math.isfinite(speed) and due_s > clock():
            sleep(due_s - clock())
        arrived_s = clock()
        betas = fill_gap(session, recorded.run, volume.index) + _pushed(session, volume)
        ready_s = clock()
        for beta in betas:
            yield _result_of(beta, trials, decoder, clock, arrived_s, ready_s)
    ended_s = clock()
    betas = fill_gap(session, recorded.run, recorded.n_volumes) + session.end_run(recorded.run)
    ready_s = clock()
    for beta in betas:
        yield _result_of(beta, trials, decoder, clock, ended_s, ready_s)
    _print_notes(unmeasured(recorded.run, session.unmeasured_trials(recorded.run)))


def _pushed(session: IngestSession, volume: Volume) -> list[TrialBeta]:
    """The betas that a volume completes. A volume with values that are not finite is missing, as in the service."""
    try:
        return session.push(volume).betas
    except BadVolume as error:
        if error.code != "volume.not_finite":
            raise
        _print_skipped(error)
        return session.mark_missing(volume.run, volume.index)


def _result_of(
    beta: TrialBeta,
    trials: Trials,
    decoder: TrialDecoder,
    clock: Callable[[], float],
    arrived_s: float,
    ready_s: float,
) -> ReplayResult:
    retrieval = decoder.retrieve(
        beta.beta_V, beta.mean_V, beta.std_V, stage=beta.stage, n_run=beta.n_run, trial=beta.trial
    )
    label, predicted = trials.labels.get(beta.trial), retrieval.candidates[0].id
    times_ms = {"beta": 1e3 * (ready_s - arrived_s), **retrieval.timings_ms, "total": 1e3 * (clock() - arrived_s)}
    return ReplayResult(
        run=beta.run,
        trial=beta.trial,
        stage=beta.stage,
        onset_s=trials.onsets_s[beta.trial],
        label=label,
        predicted=predicted,
        correct=None if label is None else predicted == decoder.bundle.pool.named(label),
        confidence=retrieval.confidence,
        null_confidence=retrieval.null_confidence,
        chance=retrieval.chance,
        scores={candidate.id: candidate.score for candidate in retrieval.candidates},
        n_volumes=beta.n_volumes,
        flagged=beta.flagged,
        normalised_by=beta.normalised_by,
        model=decoder.bundle.digest,
        pool=decoder.bundle.pool_digest,
        latency_ms={stage: round(value, 3) for stage, value in times_ms.items()},
    )


def _print_notes(notes: Sequence[Note]) -> None:
    for note in notes:
        print(f"{note.text} [{note.code}]", file=sys.stderr, flush=True)


def _print_skipped(error: BadVolume) -> None:
    print(f"skipped: {error} [{error.code}]", file=sys.stderr, flush=True)


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise _unwritable(error) from None


def _write(file: IO[str], result: ReplayResult) -> None:
    try:
        file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        file.flush()
    except OSError as error:
        raise _unwritable(error) from None


def _unwritable(error: OSError) -> StorageFull:
    return StorageFull(f"expected to write the results, got {error.strerror}: free space or name another file")


if not TYPE_CHECKING:  # which would take any name for one of this module
    __getattr__ = old_names(__name__)

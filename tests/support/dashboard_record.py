"""A session that could have been, as the messages that the dashboard receives, and its images.

Knows nothing of the gateway or of decoding: figures are drawn at random, seeded, and only look like real ones.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from mindsight.protocol.messages import (
    BetaReady,
    Candidate,
    Captioned,
    EventAdded,
    Message,
    Reconstruction,
    ReconstructionFit,
    Result,
    RunEnded,
    RunStarted,
    SessionArchived,
    SessionClosed,
    SessionOpened,
    StageLatency,
    VolumeMissing,
    VolumeProcessed,
    VolumeReceived,
    WarmingUp,
    Warned,
    without_truth,
)
from mindsight.stages import Stage

TR_S = 1.5
N_VOLUMES = 100
N_TRIALS = 12
POOL = 100
STARTED_T = 1_700_000_000.0
FLAGS = ("motion", "spike", "pose", "missing", "early", "registration")
HIT = {"fast": 0.5, "revised": 0.62, "final": 0.72}
MODEL, POOL_DIGEST, GENERATOR, CAPTIONER, ENCODER = (
    hashlib.sha256(x).hexdigest() for x in (b"decoder", b"pool", b"generator", b"captioner", b"encoder")
)


@dataclass
class Record:
    """Messages in order, numbered from 1, and the images by digest."""

    session: str
    messages: list[Message] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    usable_min: float | None = None

    def add(self, message: Message) -> None:
        self.messages.append(message.model_copy(update={"id": len(self.messages) + 1}))

    def add_image(self, image: Image.Image) -> str:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        self.images[digest] = buffer.getvalue()
        return digest

    def until(self, run: int, index: int) -> int:
        """How many messages there are up to and with the processing of one volume and what came of it."""
        for n, message in enumerate(self.messages):
            if isinstance(message, VolumeReceived) and (message.run, message.index) == (run, index + 1):
                return n
        raise ValueError(f"no volume after {index} in run {run}")


def scene(number: int, size: int = 64) -> Image.Image:
    """A landscape that differs from the others in sky, ground, hills and sun."""
    rng = random.Random(number)
    image = Image.new("RGB", (size * 4, size * 4))
    draw = ImageDraw.Draw(image)
    side = size * 4
    horizon = int(side * rng.uniform(0.4, 0.7))
    sky = [rng.randint(60, 200) for _ in range(3)]
    for y in range(horizon):
        draw.line([(0, y), (side, y)], fill=tuple(min(255, c + 60 * y // horizon) for c in sky))
    draw.rectangle([0, horizon, side, side], fill=tuple(rng.randint(40, 150) for _ in range(3)))
    for _ in range(rng.randint(1, 3)):
        x, w, top = rng.randint(0, side), rng.randint(40, 110), rng.uniform(0.3, 0.8)
        draw.polygon(
            [(x - w, horizon), (x, int(horizon * (1 - top))), (x + w, horizon)],
            fill=(*(rng.randint(40, 130) for _ in range(3)),),
        )
    x, y, r = rng.randint(30, side - 30), rng.randint(25, horizon - 20), rng.randint(10, 24)
    draw.ellipse([x - r, y - r, x + r, y + r], fill=(250, rng.randint(180, 240), rng.randint(90, 200)))
    x, w = rng.randint(20, side - 90), rng.randint(34, 70)
    draw.rectangle([x, horizon - w // 3, x + w, horizon + w // 2], fill=tuple(rng.randint(90, 220) for _ in range(3)))
    return image.resize((size, size), Image.Resampling.LANCZOS)


def reconstruction(number: int, noise: float, seed: int) -> Image.Image:
    """A scene, blurred and off by as much as the evidence is weak."""
    image = scene(number, 32)
    small = max(4, round(32 * (1 - noise)))
    blurred = image.resize((small, small), Image.Resampling.BILINEAR).resize((64, 64), Image.Resampling.BICUBIC)
    return Image.blend(blurred, scene(seed, 64), noise * 0.12)


def brain_map(seed: int) -> Image.Image:
    """Three grey ovals with coloured voxels, standing for three planes."""
    rng = random.Random(seed)
    image = Image.new("RGB", (360, 120), (14, 17, 22))
    draw = ImageDraw.Draw(image)
    for plane in range(3):
        cx = 60 + plane * 120
        draw.ellipse([cx - 48, 12, cx + 48, 108], fill=(52, 58, 66))
        for _ in range(70):
            x, y = cx + int(rng.gauss(0, 18)), 82 + int(rng.gauss(0, 9))
            draw.rectangle([x, y, x + 3, y + 3], fill=(230, 140, 60) if rng.random() < 0.5 else (90, 169, 230))
    return image


class Scanner:
    """Writes one session, volume by volume."""

    def __init__(self, *, blinded: bool = False, brain: bool = False, labels_only: bool = False, seed: int = 7) -> None:
        self.rng = random.Random(seed)
        self.record = Record("ses-blinded" if blinded else "ses-02")
        self.t = STARTED_T
        self.brain = brain
        self.labels_only = labels_only
        self.pool = [f"scene-{i:03d}" for i in range(POOL)]
        self.pictures = [self.record.add_image(scene(i)) for i in range(POOL)]
        self.position = [0.0] * 6
        self.blinded = blinded

    def add(self, message: Message) -> None:
        self.record.add(without_truth(message) if self.blinded else message)

    def common(self) -> dict[str, float | str]:
        return {"session": self.record.session, "t": self.t}

    def session(self, runs: int = 2) -> Record:
        self.add(
            SessionOpened(**self.common(), subject="sub-7f3a", bundle="bundle-3", pool_size=POOL, blinded=self.blinded)
        )
        for run in range(1, runs + 1):
            self.run(run)
            self.t += 20
        self.add(SessionClosed(**self.common()))
        self.t += 2
        self.add(SessionArchived(**self.common(), archive=f"archive/{self.record.session}", n_files=231))
        return self.record

    def run(self, run: int) -> None:
        self.add(RunStarted(**self.common(), run=run, task="scenes", tr_s=TR_S, n_volumes=N_VOLUMES))
        truth = self.rng.sample(range(POOL), N_TRIALS)
        onsets = [6.0 + 11.5 * i for i in range(N_TRIALS)]
        for i, (onset, shown) in enumerate(zip(onsets, truth, strict=True)):
            self.add(
                EventAdded(
                    **self.common(),
                    run=run,
                    trial=i + 1,
                    onset_s=onset,
                    duration_s=3.0,
                    stimulus=None if self.labels_only else self.pictures[shown],
                    candidate=self.pool[shown],
                    label=f"kind {shown % 8}",
                )
            )
        spikes = {run * 17 + 10, run * 17 + 11, 58 + run, 71}
        bad = [i for i in range(N_TRIALS) if any(0 <= s * TR_S - onsets[i] < 12 for s in spikes)]
        for index in range(N_VOLUMES):
            self.volume(run, index, index in spikes)
            now = (index + 1) * TR_S
            for i, onset in enumerate(onsets):
                for stage, due in (("fast", 7.5), ("revised", 18.0)):
                    if now - TR_S < onset + due <= now:
                        self.answer(run, i + 1, truth[i], stage, index + 1, i in bad)
            self.t += TR_S
        self.add(RunEnded(**self.common(), run=run, n_volumes=N_VOLUMES, n_missing=1 if run == 2 else 0))
        for i in range(N_TRIALS):
            self.answer(run, i + 1, truth[i], "final", N_VOLUMES, i in bad)

    def volume(self, run: int, index: int, spike: bool) -> None:
        rng = self.rng
        if run == 2 and index == 33:
            self.add(VolumeMissing(**self.common(), run=run, index=index, reason="not sent within 3 TR"))
            return
        self.add(
            VolumeReceived(
                **self.common(),
                run=run,
                index=index,
                latency_ms=StageLatency(receive=rng.gammavariate(9, 1.3)),
            )
        )
        drift = [rng.gauss(0, 0.012) for _ in range(6)]
        if spike:
            drift = [rng.gauss(0, 0.25) for _ in range(6)]
        self.position = [0.985 * p + d for p, d in zip(self.position, drift, strict=True)]
        fd = sum(map(abs, drift[:3])) + 50 * 0.01745 * sum(map(abs, drift[3:])) * 0.5
        fd = fd + rng.uniform(0.6, 2.6) if spike else min(fd, 0.35)
        self.t += 0.05
        self.add(
            VolumeProcessed(
                **self.common(),
                run=run,
                index=index,
                translation_mm=tuple(self.position[:3]),
                rotation_deg=tuple(0.6 * p for p in self.position[3:]),
                fd_mm=fd,
                dvars_percent=None if index == 0 else rng.gauss(1.5, 0.1) + (2.2 if spike else 0),
                tsnr=None if index < 8 else 61 + 14 * (1 - 2.718 ** (-index / 20)) * 0.2 + rng.gauss(0, 0.3),
                censored=spike,
                censored_by="motion" if spike else None,
                latency_ms=StageLatency(
                    queue=rng.gammavariate(2, 2), motion=rng.gammavariate(20, 0.8), glm=rng.gammavariate(9, 0.8)
                ),
            )
        )
        if spike:
            self.add(
                Warned(
                    **self.common(),
                    code="volume.censored",
                    run=run,
                    index=index,
                    text=f"volume {index} of run {run} excluded from the analysis: the head moved {fd:.2f} mm, more"
                    " than 0.5 mm",
                )
            )
        if index == 48:
            self.add(
                Warned(
                    **self.common(),
                    code="signal.drift",
                    run=run,
                    index=index,
                    text="the mean signal fell by 2.1 % in a minute: check the coil and the participant",
                )
            )

    def answer(self, run: int, trial: int, truth: int, stage: Stage, n_volumes: int, flagged: bool) -> None:
        rng = random.Random(f"{run}-{trial}-{stage}")
        easy = random.Random(f"{run}-{trial}").random() < HIT[stage]
        order = rng.sample([i for i in range(POOL) if i != truth], 7)
        order.insert(0 if easy else rng.randint(1, 6), truth)
        first = rng.uniform(0.45, 0.8) if easy else rng.uniform(0.15, 0.5)
        rest = sorted((rng.random() ** 3 for _ in range(7)), reverse=True)
        probabilities = [first, *(min(first, x * (1 - first) / sum(rest)) for x in rest)]
        scores = sorted((0.3 + 0.14 * p + rng.uniform(0, 0.03) for p in probabilities), reverse=True)
        self.t += 0.02
        where = {"run": run, "trial": trial, "stage": stage}
        self.add(
            BetaReady(
                **self.common(),
                **where,
                n_volumes=n_volumes,
                n_voxels=8627,
                flagged=flagged,
                flagged_by=("motion",) if flagged else (),
                beta=hashlib.sha256(f"{run}{trial}{stage}".encode()).hexdigest(),
                latency_ms=StageLatency(beta=rng.gammavariate(20, 1.9)),
            )
        )
        self.add(
            Result(
                **self.common(),
                **where,
                confidence=first,
                null_confidence=0.24,
                chance=1 / POOL,
                pool_size=POOL,
                candidates=tuple(
                    Candidate(
                        id=self.pool[i],
                        label=None if not self.labels_only else f"kind {i % 8}",
                        image=None if self.labels_only else self.pictures[i],
                        score=s,
                        probability=p,
                    )
                    for i, s, p in zip(order, scores, probabilities, strict=True)
                ),
                flagged=flagged,
                model=MODEL,
                pool=POOL_DIGEST,
                normalised_by="running",
                to_be_drawn=not self.labels_only,
                warming_up=WarmingUp(n=trial, of=6) if (run, stage) == (1, "fast") and trial < 6 else None,
                latency_ms=StageLatency(
                    decode=rng.gammavariate(9, 0.5),
                    retrieve=rng.gammavariate(4, 0.5),
                    retrieval=rng.gammavariate(14, 1.2),
                ),
            )
        )
        if self.labels_only:
            return
        self.t += 0.06
        noise = {"fast": 0.7, "revised": 0.58, "final": 0.45}[stage]
        took_ms = rng.gammavariate(30, 1.9)
        full = Reconstruction(
            **self.common(),
            **where,
            seed=rng.getrandbits(62),
            evaluations=8,
            generator=GENERATOR,
            from_ranking=first,
            image=self.record.add_image(reconstruction(order[0], noise, trial + 200)),
            brain_map=self.record.add_image(brain_map(run * 100 + trial)) if self.brain else None,
            latency_ms=StageLatency(generate=took_ms, reconstruction=took_ms + 20.0),
        )
        if stage == "fast":
            early = {
                "version": "preview",
                "evaluations": 2,
                "image": self.record.add_image(reconstruction(order[0], 1.2, trial + 200)),
                "latency_ms": StageLatency(preview=took_ms / 3, reconstruction=took_ms / 3 + 20.0),
            }
            self.add(full.model_copy(update=early))
        self.add(full)
        self.add(
            ReconstructionFit(
                **self.common(),
                **where,
                image=full.image,
                token_cosine=1.0 - noise + rng.uniform(-0.1, 0.1),
                fit_percentile=None if stage == "revised" else 100.0 - rng.expovariate(0.2),
                encoder=ENCODER,
                latency_ms=StageLatency(embed=rng.gammavariate(9, 0.3)),
            )
        )
        sentence = f"a sun low over {order[0] % 8 + 2} hills with a small house in front of them"
        self.add(Captioned(**self.common(), **where, text=sentence, model=CAPTIONER))


def widest(record: Record, each_ms: float) -> Record:
    """The same session on a slow machine with a restless participant: every figure as wide as it can get.

    each_ms : what every stage takes
    """
    volume = {
        "translation_mm": (-88.88, -88.88, -88.88),
        "rotation_deg": (-88.88, -88.88, -88.88),
        "fd_mm": 88.88,
        "dvars_percent": 88.88,
        "tsnr": 888.8,
        "censored": True,
        "censored_by": "motion",
    }
    long = "objects/animals of the northern forests/a very long name of a stimulus_with-parts_0123456789.png"
    figures = {
        "session.opened": {
            "subject": "sub-0123456789abcdef-of-a-large-study",
            "bundle": "bundle-of-the-second-visit-v12",
        },
        "run.started": {"n_volumes": 8888},
        "event.added": {"label": long},
        "volume.processed": volume,
        "beta.ready": {"n_volumes": 8888, "n_voxels": 888_888, "flagged": True, "flagged_by": FLAGS},
        "result": {"pool_size": 888_888, "chance": 1 / 888_888, "n_repeats": 88, "confidence": 0.88},
        "reconstruction": {"evaluations": 8888, "from_ranking": 0.88, "seed": 2**62 + 1, "version": "refined"},
        "reconstruction.fit": {"token_cosine": -0.88, "fit_percentile": None},
    }
    messages = []
    for message in record.messages:
        update = dict(figures.get(message.type, {}))
        if (latency := getattr(message, "latency_ms", None)) is not None:
            update["latency_ms"] = latency.model_copy(update=dict.fromkeys(latency.model_fields_set, each_ms))
        if isinstance(message, Result):
            wide = {"score": -0.88, "probability": 0.88, "label": long}
            update["candidates"] = tuple(c.model_copy(update=wide) for c in message.candidates)
        messages.append(message.model_copy(update=update))
    return Record(f"{record.session}-wide-{each_ms:.0f}", messages, record.images, usable_min=600.0)


def remade(record: Record, session: str, change: Callable[[Message], Message | None]) -> Record:
    """The record under another name, each message changed or (None) left out."""
    changed = Record(session, images=record.images, usable_min=record.usable_min)
    for message in record.messages:
        if (made := change(message)) is not None:
            changed.add(made.model_copy(update={"session": session}))
    return changed


def iter_trials(record: Record) -> Iterator[EventAdded]:
    """The trials of a record, in order."""
    return (m for m in record.messages if isinstance(m, EventAdded))

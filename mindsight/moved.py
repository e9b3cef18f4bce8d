"""The names that modules had before the house was rebuilt, for one version: scripts that import them keep working.

Knows nothing of what the modules hold. An old name is a module whose attributes are looked for in the new ones when
they are asked for, so importing it costs nothing and a DeprecationWarning gives the new name. The table of
``docs/adr/0005-the-house.md`` lists the same moves. A module that stayed while its names changed serves the old ones by
``old_names``, a class by ``OldName``.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ROOT = "mindsight."

MOVED = {
    "archive.confounds": "archive.write.confounds",
    "archive.derivatives": "archive.write.derivatives",
    "archive.images": "archive.write.nifti",
    "archive.pictures": "archive.write.contact_sheet",
    "archive.place": "archive.write.registration",
    "archive.raw": "archive.write.raw",
    "archive.session": "archive.records",
    "archive.tables": "archive.write.tables",
    "bus.sessions": "journal.sessions",
    "demo": "operations.demo simulator.demo",
    "doctor": "operations.doctor",
    "evaluate": "evaluation.run",
    "evaluate_session": "evaluation.from_archive",
    "evaluation.answers": "evaluation.inputs",
    "evaluation.brain": "evaluation.metrics.brain",
    "evaluation.captions": "evaluation.metrics.captions",
    "evaluation.features": "evaluation.metrics.features",
    "evaluation.identification": "evaluation.metrics.identification",
    "evaluation.metric": "evaluation.metrics.metric",
    "evaluation.page": "evaluation.report.page",
    "evaluation.perceptual": "evaluation.metrics.perceptual",
    "evaluation.pixels": "evaluation.metrics.pixels",
    "evaluation.published": "evaluation.report.published",
    "evaluation.resize": "evaluation.metrics.resize",
    "evaluation.session": "archive.read evaluation.live",
    "evaluation.similarity": "evaluation.metrics.similarity",
    "evaluation.table": "evaluation.report.table",
    "inference": "decoding",
    "ingest.followed": "preprocessing.motion.prospective",
    "ingest.placement": "preprocessing.registration.report",
    "ingest.places": "preprocessing.registration.session_reference",
    "ingest.records": "ingest.options ingest.space ingest.outputs ingest.state",
    "inspect": "cli.inspect cli.survey_table",
    "mindeye": "decoders.mindeye2",
    "mindeye.adapter": "decoders.mindeye2.adapter",
    "mindeye.affine": "decoders.mindeye2.affine",
    "mindeye.backbone": "decoders.mindeye2.backbone",
    "mindeye.checkpoint": "decoders.mindeye2.adapter",
    "mindeye.convert": "decoders.mindeye2.convert",
    "mindeye.decoder": "decoders.mindeye2.decoder",
    "mindeye.evaluation": "decoders.mindeye2.prior_inference",
    "mindeye.folded": "decoders.mindeye2.folded",
    "mindeye.layout": "decoders.mindeye2.layout",
    "mindeye.loading": "decoders.mindeye2.loading",
    "mindeye.losses": "decoders.mindeye2.losses",
    "mindeye.model": "decoders.mindeye2.model",
    "mindeye.prior": "decoders.mindeye2.prior",
    "mindeye.prior_inference": "decoders.mindeye2.prior_inference",
    "mindeye.prior_network": "decoders.mindeye2.prior_network",
    "mindeye.sampler": "decoders.mindeye2.sampler",
    "mindeye.schedule": "decoders.mindeye2.schedule",
    "mindeye.torchfiles": "weights.torchfile",
    "mindeye.transformer": "decoders.mindeye2.transformer",
    "mindeye.zero": "weights.zero",
    "models": "assets",
    "pool": "cli.pool retrieval.from_files",
    "preprocessing.alerts": (
        "preprocessing.quality.alerts preprocessing.quality.limits preprocessing.quality.baseline"
        " preprocessing.quality.rules"
    ),
    "preprocessing.aligned": "preprocessing.motion.aligned",
    "preprocessing.average": "preprocessing.registration.average_reference",
    "preprocessing.coarse": "preprocessing.motion.coarse",
    "preprocessing.device": "preprocessing.motion.device",
    "preprocessing.draw": "preprocessing.figures.pose",
    "preprocessing.information": "preprocessing.registration.mutual_information",
    "preprocessing.memory": "preprocessing.motion.memory_order",
    "preprocessing.pyramid": "preprocessing.motion.pyramid",
    "preprocessing.realign": "preprocessing.motion.realign",
    "preprocessing.register": "preprocessing.registration.register",
    "preprocessing.rigid": "preprocessing.motion.rigid",
    "preprocessing.spikes": "preprocessing.quality.spikes",
    "preprocessing.spline": "preprocessing.motion.spline",
    "preprocessing.step": "preprocessing.motion.newton",
    "preprocessing.support": "preprocessing.motion.voxel_selection",
    "preprocessing.survey": "preprocessing.motion.residuals",
    "protocol.volume_codec": "volume_codec",
    "recording": "scanner.recording",
    "replay": "operations.replay ingest.feed",
    "retrieval.linear": "decoders.linear.decoder",
    "retrieval.pairs": "retrieval.two_afc",
    "retrieval.pictures": "encoders.sources",
    "retrieval.reduced": "retrieval.sketch",
    "retrieval.ridge": "decoders.linear.ridge",
    "retrieval.streaming": "retrieval.dot_products",
    "retrieval.tensors": "weights.tensors",
    "retrieval.tower": "encoders.openclip",
    "scanner.allowed": "scanner.formats.allowed",
    "scanner.csa": "scanner.formats.csa",
    "scanner.deidentify": "scanner.formats.dicom_header",
    "scanner.dicom_series": "scanner.formats.dicom_series",
    "scanner.dicom_timing": "scanner.formats.dicom_timing",
    "scanner.dicomframes": "scanner.formats.dicom_frames",
    "scanner.echo_series": "scanner.formats.echo_series",
    "scanner.elements": "scanner.formats.elements",
    "scanner.enhanced": "scanner.formats.enhanced",
    "scanner.files": "scanner.formats.files",
    "scanner.geometry": "scanner.formats.geometry",
    "scanner.kinds": "scanner.formats.image_type",
    "scanner.live_slices": "scanner.assembly.live_slices",
    "scanner.moments": "scanner.formats.moments",
    "scanner.mosaic": "scanner.formats.mosaic",
    "scanner.names": "scanner.formats.file_names",
    "scanner.nifti": "scanner.formats.nifti",
    "scanner.nifti_fields": "scanner.formats.nifti_fields",
    "scanner.nifti_series": "scanner.formats.nifti_series",
    "scanner.numbers": "scanner.formats.object_numbers",
    "scanner.par_geometry": "scanner.formats.par_geometry",
    "scanner.parheader": "scanner.formats.par_header",
    "scanner.parrec": "scanner.formats.parrec",
    "scanner.parrec_series": "scanner.formats.parrec_series",
    "scanner.pixels": "scanner.formats.pixels",
    "scanner.record": "scanner.formats.dicom_record",
    "scanner.recorded": "scanner.recording",
    "scanner.rle": "scanner.formats.rle",
    "scanner.scaling": "scanner.formats.scaling",
    "scanner.sidecar": "scanner.formats.sidecar",
    "scanner.slice_places": "scanner.formats.slice_locations",
    "scanner.slices": "scanner.formats.slices",
    "scanner.transports.arrivals": "scanner.assembly.arrivals",
    "scanner.transports.assemble": "scanner.assembly.assemble",
    "scanner.transports.candidates": "scanner.assembly.candidates",
    "scanner.transports.contents": "scanner.assembly.file_contents",
    "scanner.transports.families": "scanner.assembly.families",
    "scanner.transports.gather": "scanner.assembly.gather",
    "scanner.transports.guard": "scanner.guard",
    "scanner.transports.live_timing": "scanner.assembly.live_timing",
    "scanner.transports.marks": "scanner.assembly.marks",
    "scanner.transports.object_places": "scanner.assembly.object_positions",
    "scanner.transports.order": "scanner.assembly.sequence",
    "scanner.transports.pairs": "scanner.assembly.parrec_pairs",
    "scanner.transports.runs": "scanner.assembly.runs",
    "scanner.transports.slice_gathering": "scanner.assembly.slice_gathering",
    "scanner.transports.untimed": "scanner.assembly.untimed",
    "scanner.vendors": "scanner.formats.vendors",
    "scanner.written": "scanner.formats.written",
    "stream": "operations.stream client.live client.send client.trail cli.terminal",
    "subjects.description": "subjects.bundle.description",
    "subjects.space": "subjects.bundle.space",
    "supervisor": "operations.supervisor client.address",
    "unclip": "generators.unclip",
    "unclip.artefact": "weights.artefact",
    "unclip.encoder": "encoders.demo",
    "unclip.generator": "generators.unclip.demo",
    "unclip.sampler": "generators.sampling.plan",
}
"""Old module -> the new modules that hold its names, each without ``mindsight.``."""

RENAMED = {
    "Answer": "ReplayResult",
    "Answers": "Outputs",
    "ArchivedAnswer": "ArchivedResult",
    "ArchivedPlace": "ArchivedRegistration",
    "Encoder": "DemoEncoder",
    "FolderPictures": "FolderImages",
    "Generator": "DemoGenerator",
    "Hdf5Pictures": "Hdf5Images",
    "Pictures": "ImageSource",
    "Placement": "RegistrationReport",
    "PriorEvaluation": "PriorInference",
    "Space": "SubjectSpace",
    "answers": "replay_results",
    "as_pictures": "as_unit_images",
    "read_answers": "read_outputs",
    "read_pictures": "read_images",
}
"""Names that changed on the way, or later; a module without the new name gives what it has under the old one."""


class OldName:
    """The old name of an attribute, in the body of its class: gives the new one, with a warning."""

    def __init__(self, new: str) -> None:
        self._new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self._old = f"{owner.__name__}.{name}"

    def __get__(self, held: object, owner: type | None = None) -> Any:
        _warn_of_attribute(self._old, self._new)
        return getattr(owner if held is None else held, self._new)


def old_names(module: str) -> Callable[[str], Any]:
    """``__getattr__`` of a module that stayed: the old names of what it holds, each with a warning."""

    def find(name: str) -> Any:
        new = RENAMED.get(name)
        if new is None or not hasattr(sys.modules[module], new):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn_of_attribute(f"{module}.{name}", new)
        return getattr(sys.modules[module], new)

    return find


def _warn_of_attribute(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now {new}: use that, the old name goes with the next version", DeprecationWarning, stacklevel=3
    )


class _OldNames(MetaPathFinder, Loader):
    """Is asked last, so that a module that exists is never replaced."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.removeprefix(ROOT) not in MOVED or not fullname.startswith(ROOT):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        now = [ROOT + name for name in MOVED[module.__name__.removeprefix(ROOT)].split()]
        warnings.warn(
            f"{module.__name__} is now {' and '.join(now)}: import from there, the old name goes with the next version",
            DeprecationWarning,
            stacklevel=2,
        )

        def find(name: str) -> Any:
            if not name.startswith("__"):
                for wanted in (RENAMED.get(name, name), name):
                    for new in now:
                        if hasattr(holder := importlib.import_module(new), wanted):
                            return getattr(holder, wanted)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}; it is now {', '.join(now)}")

        module.__getattr__ = find  # type: ignore[method-assign]


def install() -> None:
    """From now on, the old names can be imported."""
    if not any(isinstance(finder, _OldNames) for finder in sys.meta_path):
        sys.meta_path.append(_OldNames())

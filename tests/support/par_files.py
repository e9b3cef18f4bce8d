"""A writer of small PAR/REC pairs, from the field list that PAR files carry. It knows nothing of the reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_GENERAL = {
    "Patient name": "ZQXJ^Patient",
    "Examination name": "ZQXJ examination",
    "Protocol name": "ZQXJ protocol",
    "Examination date/time": "2004.03.10 / 14:02:17",
    "Series Type": "Image   MRSERIES",
    "Acquisition nr": "5",
    "Reconstruction nr": "1",
    "Scan Duration [sec]": "14",
    "Max. number of cardiac phases": "1",
    "Max. number of echoes": "1",
    "Max. number of slices/locations": "{slices}",
    "Max. number of dynamics": "{dynamics}",
    "Max. number of mixes": "1",
    "Patient position": "Head First Supine",
    "Preparation direction": "Anterior-Posterior",
    "Technique": "FEEPI",
    "Scan resolution  (x, y)": "{x} {y}",
    "Scan mode": "MS",
    "Repetition time [ms]": "{tr_ms:.3f}",
    "FOV (ap,fh,rl) [mm]": "240.000 91.000 220.000",
    "Water Fat shift [pixels]": "11.050",
    "Angulation midslice(ap,fh,rl)[degr]": "{angulation[0]:.3f} {angulation[1]:.3f} {angulation[2]:.3f}",
    "Off Centre midslice(ap,fh,rl) [mm]": "{centre[0]:.3f} {centre[1]:.3f} {centre[2]:.3f}",
    "Flow compensation <0=no 1=yes> ?": "0",
    "Presaturation     <0=no 1=yes> ?": "0",
    "Phase encoding velocity [cm/sec]": "0.000000  0.000000  0.000000",
    "MTC               <0=no 1=yes> ?": "0",
    "SPIR              <0=no 1=yes> ?": "1",
    "EPI factor        <0,1=no EPI>": "39",
    "Dynamic scan      <0=no 1=yes> ?": "1",
    "Diffusion         <0=no 1=yes> ?": "0",
    "Diffusion echo time [ms]": "0.0000",
}
_V3_ONLY = {
    "Image pixel size [8 or 16 bits]": "{bits}",
    "Recon resolution (x, y)": "{x} {y}",
    "Slice thickness [mm]": "{thickness:.3f}",
    "Slice gap [mm]": "{gap:.3f}",
}


@dataclass(frozen=True)
class Pair:
    """What is written. centres_Z3 : each slice's own (ap, fh, rl) in mm; zero if not given."""

    version: str = "V4.2"
    shape: tuple[int, int, int] = (6, 5, 4)
    dynamics: tuple[int, ...] = (1, 2, 3)
    types: tuple[int, ...] = (0,)
    echoes: int = 1
    bits: int = 16
    tr_ms: float = 2000.0
    interval_s: float = 2.0
    angulation: tuple[float, float, float] = (-13.26, 4.5, 2.25)
    centre: tuple[float, float, float] = (-12.3, 8.4, 1.7)
    orientation: int = 1
    spacing: tuple[float, float] = (3.75, 3.75)
    thickness: float = 6.0
    gap: float = 2.0
    centres_Z3: np.ndarray | None = None
    time_first: bool = False
    drop: tuple[tuple[int, int], ...] = ()
    general: dict[str, str] = field(default_factory=dict)


def write_pair(path: Path, pair: Pair, seed: int = 0) -> Path:
    """``path`` names the PAR file; the REC file has the same stem and the suffix's case."""
    rng = np.random.default_rng(seed)
    x, y, n_slices = pair.shape
    keys = [
        (kind, dynamic, echo, place)
        for kind in pair.types
        for dynamic in pair.dynamics
        for echo in range(1, pair.echoes + 1)
        for place in range(1, n_slices + 1)
        if (dynamic, place) not in pair.drop
    ]
    if pair.time_first:
        keys.sort(key=lambda key: (key[0], key[3], key[1]))
    top = 255 if pair.bits == 8 else 4095
    data = rng.integers(0, top + 1, (len(keys), y, x)).astype("u1" if pair.bits == 8 else "<u2")
    path.with_suffix(".REC" if path.suffix == ".PAR" else ".rec").write_bytes(data.tobytes())
    rows = [_row(pair, index, key, rng) for index, key in enumerate(keys)]
    general = _GENERAL | (_V3_ONLY if pair.version == "V3" else {}) | pair.general
    values = {"slices": n_slices, "dynamics": len(pair.dynamics), "x": x, "y": y} | {
        name: getattr(pair, name) for name in ("bits", "tr_ms", "angulation", "centre", "thickness", "gap")
    }
    lines = [
        "# === DATA DESCRIPTION FILE ======================================================",
        "#",
        "# Dataset name: E:\\Export\\ZQXJ_dataset",
        f"# CLINICAL TRYOUT             Research image export tool     {pair.version}",
        "#",
        "# === GENERAL INFORMATION ========================================================",
        *(f".    {key:<35}:   {value.format(**values)}" for key, value in general.items()),
        "# === IMAGE INFORMATION ==========================================================",
        "#  sl ec  dyn ph ty    idx pix scan% rec size                (re)scale",
        "",
        *rows,
        "",
        "# === END OF DATA DESCRIPTION FILE ===============================================",
    ]
    path.write_text("\r\n".join(lines) + "\r\n")
    return path


def _row(pair: Pair, index: int, key: tuple[int, int, int, int], rng: np.random.Generator) -> str:
    kind, dynamic, echo, place = key
    x, y, _ = pair.shape
    ri, rs, ss = rng.uniform(-5, 5), rng.uniform(0.5, 2.0), rng.uniform(1e-3, 1e-2)
    centre = (0.0, 0.0, 0.0) if pair.centres_Z3 is None else pair.centres_Z3[place - 1]
    begin_s = (dynamic - 1) * pair.interval_s
    head = f"{place:3d} {echo} {dynamic:4d} 1 {kind} 2 {index:5d}"
    size = "" if pair.version == "V3" else f"{pair.bits} 62 {x} {y}"
    scale = f"{ri:.5f} {rs:.5f} {ss:.5e} 1070 1860"
    where = " ".join(f"{value:.3f}" for value in (*pair.angulation, *centre))
    thick = "" if pair.version == "V3" else f"{pair.thickness:.3f} {pair.gap:.3f}"
    spacing, echo_ms = f"{pair.spacing[0]:.3f} {pair.spacing[1]:.3f}", 15.0 + 15.0 * echo
    rest = f"0 {pair.orientation} 0 2 {spacing} {echo_ms:.2f} {begin_s:.2f} 0.00 0.00"
    tail = {
        "V3": "90.00",
        "V4": "0 90.00 0 0 0 39 0.0",
        "V4.1": "0 90.00 0 0 0 39 0.0 1 1 8 0 0.000 0.000 0.000",
        "V4.2": "0 90.00 0 0 0 39 0.0 1 1 8 0 0.000 0.000 0.000 1",
    }[pair.version]
    return " ".join((head, size, scale, where, thick, rest, tail))

"""The numerical tests again, with the kernels that other processors would use, on one thread and on two.

``make test-portable``. Each library chooses its kernels by what the processor can do and takes less where it is asked
to; a setting that this processor lacks is left out and reported. "Byte-identical after a kill" is a promise on
one machine and one setting, so nothing of that is here: these tests compare with references by tolerances. Those that
are derived say from what (``tolerance.py``); of the others of rounding, no kernel here uses more than a half.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
NUMERICAL = (
    "decoders/mindeye2/test_parity.py",
    "decoders/mindeye2/test_sampler.py",
    "decoders/mindeye2/test_peer.py",
    "decoders/mindeye2/test_folded.py",
    "decoders/linear/test_inversion.py",
    "generators/sampling",
    "generators/unclip/sdxl/test_parity.py",
    "captions/test_git.py",
    "retrieval",
    "glm",
    "evaluation/networks/test_networks.py",
    "evaluation/metrics/test_pixels.py",
    "evaluation/metrics/test_features.py",
    "preprocessing/motion/test_spline.py",
    "preprocessing/motion/test_rigid.py",
    "preprocessing/motion/test_newton.py",
    "preprocessing/motion/test_device.py",
    "preprocessing/quality/test_figures.py",
    "training/calibration/test_linear_choice.py",
    "test_decoding.py",
)


@dataclass(frozen=True)
class Kernels:
    """What to ask of the libraries, and the processor's features without which that means nothing."""

    name: str
    needs: frozenset[str]
    variables: Mapping[str, str]


SETTINGS = (
    Kernels(
        "SSE, as every 64-bit processor has it",
        frozenset(),
        {
            "ATEN_CPU_CAPABILITY": "default",
            "MKL_CBWR": "COMPATIBLE",
            "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "OPENBLAS_CORETYPE": "Prescott",
            "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
            "NUMBA_CPU_NAME": "nehalem",
            "NUMBA_CPU_FEATURES": "",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        },
    ),
    Kernels(
        "AVX2",
        frozenset({"avx2", "fma"}),
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "MKL_CBWR": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
            "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
            "NUMBA_CPU_NAME": "haswell",
            "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma",
            "OPENBLAS_NUM_THREADS": "2",
            "OMP_NUM_THREADS": "2",
        },
    ),
    Kernels(
        "AVX-512",
        frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"}),
        {
            "ATEN_CPU_CAPABILITY": "avx512",
            "MKL_ENABLE_INSTRUCTIONS": "AVX512",
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
            "OPENBLAS_CORETYPE": "SkylakeX",
            "NUMBA_CPU_NAME": "skylake-avx512",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        },
    ),
    Kernels("this processor's own, on two threads", frozenset(), {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}),
)


def features() -> frozenset[str]:
    """Of this processor, as Linux names them; none where that cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "").split())


def asked(kernels: Kernels) -> dict[str, str]:
    """The environment of a run. NumPy warns of features that it was not built to choose, and warnings are errors."""
    variables = dict(kernels.variables)
    if "NPY_DISABLE_CPU_FEATURES" in variables:
        from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

        known = [f for f in variables.pop("NPY_DISABLE_CPU_FEATURES").split() if f in __cpu_dispatch__]
        variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(f for f in known if __cpu_features__.get(f))
    return os.environ | variables


def main() -> int:
    failed = []
    for kernels in SETTINGS:
        if platform.machine() not in ("x86_64", "AMD64") and len(kernels.variables) > 2:
            print(f"left out: {kernels.name}: not for {platform.machine()}", flush=True)
            continue
        if lacking := kernels.needs - features():
            print(f"left out: {kernels.name}: this processor has no {', '.join(sorted(lacking))}", flush=True)
            continue
        print(f"kernels: {kernels.name}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"]
        done = subprocess.run([*command, *(str(TESTS / path) for path in NUMERICAL)], env=asked(kernels), check=False)
        if done.returncode:
            failed.append(kernels.name)
    print("failed with: " + "; ".join(failed) if failed else "held with all of these kernels")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

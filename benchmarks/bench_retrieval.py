"""Exact retrieval from a memory-mapped pool against the floor of reading its bytes, and the sketch's recall.

    python benchmarks/bench_retrieval.py [--candidates 1500] [--tokens 256 1664] [--rounds 9] [--whole] [--no-history]

The pool lies in a temporary file. First it stays in the page cache: the floor of memory reads the same bytes of the
same map in the same round, with as many threads as the search has (``NUMBA_NUM_THREADS``). Then, three times, the file
is dropped from the page cache before each method, as if it were larger than memory: the floor of the disk reads the
file in blocks of 8 MB. The peer converts each block to single precision in NumPy and multiplies it with BLAS, which is
how one would write it. ``--whole`` searches 10,000 candidates (8.5 GB) and takes the recall from as many.

Recall is that of the exact ten best in the sketch's short list. Synthetic candidates share half of their power; of the
rest, 70 % lie in 256 factors that fall off as 1/sqrt(k), the others are each candidate's own. A query is the shared
part and ``fidelity`` times what is particular to one candidate, filled up with noise in the same factors.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import report
from numpy.typing import NDArray

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.linear.ridge import RidgeTrials
from mindsight.retrieval import CandidatePool, ReducedIndex, cosine_scores, rank
from mindsight.retrieval.ranking import best_places
from mindsight.weights.tensors import map_tensors, tensor_header

WHOLE_CANDIDATES = 10_000
FACTORS = 256


def mapped_pool(path: Path, n: int, shape: tuple[int, int]) -> CandidatePool:
    """N candidates of full resolution, written block by block."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(tensor_header("embeddings", np.dtype(np.float16), (n, *shape)))
        for _ in range(n):
            file.write(rng.standard_normal(shape, np.float32).astype(np.float16).tobytes())
        os.fsync(file.fileno())
    return open_pool(path)


def read(pool: CandidatePool, threads: int) -> None:
    """Every byte once, with nothing done to it that costs more than reading it."""
    words = np.asarray(pool.embeddings).reshape(-1).view(np.uint64)
    parts = np.array_split(words, threads)
    if threads == 1:
        np.bitwise_xor.reduce(words)
        return
    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(np.bitwise_xor.reduce, parts))


def read_file(path: Path, threads: int) -> None:
    """Every byte of the file once, in large blocks."""
    edges = np.linspace(0, path.stat().st_size, threads + 1).astype(int)

    def part(ends: tuple[int, int]) -> None:
        place, block = int(ends[0]), memoryview(bytearray(8 * 1024 * 1024))
        descriptor = os.open(path, os.O_RDONLY)
        while place < ends[1]:
            place += os.preadv(descriptor, [block[: min(len(block), int(ends[1]) - place)]], place)
        os.close(descriptor)

    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(part, itertools.pairwise(edges)))


def from_disk(path: Path) -> dict[str, object]:
    """Seconds of reading the file and of searching it, each after it was dropped from the page cache."""
    query = np.random.default_rng(5).standard_normal(open_pool(path).token_shape, np.float32)
    seconds: dict[str, list[float]] = {"floor: read the file": [], "exact search": []}
    for name in list(seconds) * 3:
        descriptor = os.open(path, os.O_RDONLY)  # only while no process has it mapped, or its pages stay
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
        start = time.perf_counter()
        if name == "exact search":
            rank(query, open_pool(path), 10)
        else:
            read_file(path, numba.config.NUMBA_NUM_THREADS)
        seconds[name].append(round(time.perf_counter() - start, 3))
    floor, exact = (np.array(seconds[name]) for name in seconds)
    return {"seconds": seconds, "exact search / floor": round(float(np.median(exact / floor)), 2)}


def open_pool(path: Path) -> CandidatePool:
    embeddings = map_tensors(path)["embeddings"]
    return CandidatePool(tuple(map(str, range(len(embeddings)))), embeddings)


def converted(query_D: NDArray[np.float32], pool: CandidatePool) -> NDArray[np.float32]:
    """The peer: blocks to single precision, then BLAS; norms are known."""
    step, flat = pool.rows_per_chunk, pool.flat_ND
    return np.concatenate([flat[i : i + step].astype(np.float32) @ query_D for i in range(0, len(pool), step)])


def recall(n: int, numbers: int, sizes: tuple[int, ...], queries: int = 60) -> list[dict[str, float]]:
    """Of the exact ten best, and of the exact first, in short lists of 64 and 256."""
    rng = np.random.default_rng(1)
    scales = np.arange(1, FACTORS + 1) ** -0.5
    scales = (scales / np.linalg.norm(scales)).astype(np.float32)
    basis = rng.standard_normal((FACTORS, numbers), np.float32)
    shared = np.sqrt(0.5) * rng.standard_normal(numbers, np.float32)
    loadings = rng.standard_normal((n, FACTORS), np.float32) * scales
    embeddings = np.empty((n, numbers), np.float16)
    for i in range(n):
        own = np.sqrt(0.35) * (loadings[i] @ basis) + np.sqrt(0.15) * rng.standard_normal(numbers, np.float32)
        embeddings[i] = shared + own
    pool = CandidatePool(tuple(map(str, range(n))), embeddings)
    asked = {}
    for fidelity in (0.2, 0.4, 0.7):
        places = rng.choice(n, queries, replace=False)
        noise = np.sqrt(0.5) * (rng.standard_normal((queries, FACTORS), np.float32) * scales) @ basis
        asked[fidelity] = shared + fidelity * (embeddings[places] - shared) + np.sqrt(1 - fidelity**2) * noise
    found = []
    for size in sizes:
        index = ReducedIndex.build(pool, np.random.default_rng(2), size)
        for fidelity, queries_BD in asked.items():
            exact_BN = cosine_scores(queries_BD, pool)
            estimated_BN = np.stack([index.estimates(query) for query in queries_BD])
            row: dict[str, float] = {"size": size, "fidelity": fidelity}
            for shortlist in (64, 256):
                kept = [
                    np.isin(best_places(e, 10), best_places(s, shortlist))
                    for e, s in zip(exact_BN, estimated_BN, strict=True)
                ]
                row[f"ten_in_{shortlist}"] = round(float(np.mean(kept)), 4)
                row[f"first_in_{shortlist}"] = round(float(np.mean([k[0] for k in kept])), 4)
            found.append(row)
    return found


def streaming_ridge(rounds: int) -> tuple[dict[str, dict[str, Any]], float]:
    """One more trial of 300, 5,000 voxels into 768 numbers, and the refit of all: figures and largest difference."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(300, 5000)), rng.normal(size=(300, 768))
    trials, whole = RidgeTrials(), RidgeTrials()
    trials.push(x[:-1], y[:-1])
    push = report.Clock()
    push.time(lambda: trials.push(x[-1:], y[-1:]))
    clocks = report.in_turn({"solve": trials.solve, "fit of all trials": lambda: LinearDecoder.fit(x, y)}, rounds)
    whole.push(x, y)
    expected_VD = whole.solve().weights_VD
    difference = np.abs(trials.solve().weights_VD - expected_VD).max() / np.abs(expected_VD).max()
    rows = report.compared(clocks, ours={"fit of all trials": "solve"})
    return {"push of one trial": push.figures(), **rows}, float(difference)


OURS = {
    "peer: convert, then BLAS": "exact search",
    "10,000 x 1,024: peer": "10,000 x 1,024: exact search",
}
FLOOR = {
    "exact search": "floor: read the bytes",
    "10,000 x 1,024: exact search": "10,000 x 1,024: floor",
}


def search(folder: Path, n: int, shape: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Full token resolution from the map, and 10,000 pooled embeddings in memory."""
    threads = numba.config.NUMBA_NUM_THREADS
    pool = mapped_pool(folder / "pool.safetensors", n, shape)
    rng = np.random.default_rng(5)
    query = rng.standard_normal(shape, np.float32)
    flat_query = query.reshape(-1) / np.linalg.norm(query)
    pooled = CandidatePool(
        tuple(map(str, range(10000))), rng.standard_normal((10000, 1024), np.float32).astype(np.float16)
    )
    small = rng.standard_normal(1024, np.float32)
    index = ReducedIndex.build(pool, rng)
    work: dict[str, Callable[[], object]] = {
        "exact search": lambda: rank(query, pool, 10),
        "sketch and short list of 64": lambda: index.rank(query, 10, shortlist=64),
        "peer: convert, then BLAS": lambda: converted(flat_query, pool),
        "floor: read the bytes": lambda: read(pool, threads),
        "10,000 x 1,024: exact search": lambda: rank(small, pooled, 10),
        "10,000 x 1,024: peer": lambda: converted(small, pooled),
        "10,000 x 1,024: floor": lambda: read(pooled, 1),
    }
    rows = report.compared(report.in_turn(work, rounds), ours=OURS, floor=FLOOR)
    gigabytes = pool.embeddings.nbytes / 1e9
    norms = np.sqrt(np.array([float(np.vdot(row, row)) for row in pool.flat_ND[:50].astype(np.float64)]))
    exact = pool.flat_ND[:50].astype(np.float64) @ flat_query.astype(np.float64) / norms
    return {
        "candidates": n,
        "tokens": list(shape),
        "gigabytes": round(gigabytes, 3),
        "threads": threads,
        "gigabytes_per_s": {
            name: round(1e3 * gigabytes / rows[name]["median"], 1) for name in ("floor: read the bytes", "exact search")
        },
        "ms": rows,
        "largest_difference_to_float64": float(np.abs(rank(query, pool, 1).scores_N[:50] - exact).max()),
    }


def main() -> None:
    parser = report.parser(__doc__, whole=f"{WHOLE_CANDIDATES} candidates: 8.5 GB on disk and in memory")
    parser.add_argument("--candidates", type=int, default=1500)
    parser.add_argument("--tokens", type=int, nargs=2, default=(256, 1664))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--recall-candidates", type=int, default=2000)
    parser.add_argument("--recall-numbers", type=int, default=32768)
    parser.add_argument("--folder", type=Path, help="where the temporary pool lies; the system's choice by default")
    given = parser.parse_args()
    if given.whole:
        given.candidates = given.recall_candidates = WHOLE_CANDIDATES
    began = report.machine()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        searched = search(Path(folder), given.candidates, tuple(given.tokens), given.rounds)
        searched["from_disk"] = from_disk(Path(folder) / "pool.safetensors")
    ridge, difference = streaming_ridge(min(given.rounds, 5))
    recalled = recall(given.recall_candidates, given.recall_numbers, (512, 1024, 2048))
    show(searched, ridge, difference, recalled)
    report.finish(
        "retrieval",
        given,
        began,
        ["numpy", "numba"],
        rounds=given.rounds,
        search=searched,
        ridge={"ms": ridge, "largest_relative_difference": difference},
        recall={"candidates": given.recall_candidates, "numbers": given.recall_numbers, "rows": recalled},
    )


def show(
    searched: dict[str, Any], ridge: dict[str, dict[str, Any]], difference: float, recalled: list[dict[str, float]]
) -> None:
    x, y = searched["tokens"]
    title = (
        f"{searched['candidates']} candidates of {x} x {y}, {searched['gigabytes']} GB, {searched['threads']} threads"
    )
    report.print_table(title, searched["ms"])
    speeds = ", ".join(f"{name} {value} GB/s" for name, value in searched["gigabytes_per_s"].items())
    print(f"{speeds}; largest difference to float64 {searched['largest_difference_to_float64']:.1e}")
    print(f"from the disk: exact search {searched['from_disk']['exact search / floor']} x the time of reading the file")
    report.print_table("ridge, 300 trials, 5,000 voxels into 768 numbers", ridge)
    print(f"largest relative difference to all trials at once {difference:.1e}")
    print(
        "\nrecall of the sketch: numbers it keeps, fidelity; of ten and of the first, in short lists of 64 and of 256"
    )
    for row in recalled:
        kept = " ".join(f"{row[f'{what}_in_{n}']:7.4f}" for n in (64, 256) for what in ("ten", "first"))
        print(f"{row['size']:6.0f} {row['fidelity']:4.1f} {kept}")


if __name__ == "__main__":
    main()

"""Times the peers on the rows of benches/benches/maps.rs and sets them beside its results.

Run `cargo bench -p brenier-benches` first, then `python compare.py` (needs numpy and POT; threadpoolctl, if there, names
NumPy's kernels) on the same machine while it does nothing else. Writes ../record/maps.md: times, ratios, how far apart
the mapped rows are, hardware and versions. POT at d = 4096 takes minutes, and is run twice, the first time to warm up;
`--quick` leaves it out, prints, and writes nothing.
"""

import json
import os
import pathlib
import platform
import sys
import time

import numpy as np
import ot

try:
    from threadpoolctl import threadpool_info
except ImportError:
    threadpool_info = None

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRITERION = ROOT / "target" / "criterion"


def rows(d, seed, mean, n=128):
    with np.errstate(over="ignore"):
        place = np.uint64((seed << 40) + 1) + np.arange(n * d, dtype=np.uint64)
        z = place * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (mean + ((z >> np.uint64(11)) / 2.0**53 - 0.5) * np.sqrt(12.0)).reshape(n, d)


def median(call, times):
    """The median time of a few calls after one that warms up, and what the last gave."""
    took, result = [], call()
    for _ in range(times):
        start = time.perf_counter()
        result = call()
        took.append(time.perf_counter() - start)
    return float(np.median(took)), result


def ours(name):
    found = json.loads((CRITERION / name / "new" / "estimates.json").read_text())
    return found["median"]["point_estimate"] / 1e9


def mapped(name):
    return np.loadtxt(CRITERION / f"mapped-{name}.csv", delimiter=",")


def off(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def pca_ot(x, y, k=2):
    """The usual way: a singular value decomposition of the stacked rows."""
    centre = np.concatenate([x, y]).mean(0)
    _, _, vt = np.linalg.svd(np.concatenate([x, y]) - centre, full_matrices=False)
    p = vt[:k].T
    a, b = (x - centre) @ p, (y - centre) @ p
    m_s, m_t = a.mean(0), b.mean(0)
    s_s, s_t = np.cov(a.T, bias=True), np.cov(b.T, bias=True)
    root = lambda s: (lambda w, v: (v * np.sqrt(w)) @ v.T)(*np.linalg.eigh(s))
    half = root(s_s)
    inverse = np.linalg.inv(half)
    matrix = inverse @ root(half @ s_t @ half) @ inverse
    return lambda rows: rows + (((rows - centre) @ p - m_s) @ (matrix - np.eye(k)) + (m_t - m_s)) @ p.T


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


def kernels():
    """What multiplies matrices for NumPy, and on how many threads."""
    if threadpool_info is None:
        return "NumPy's kernels not looked at (no threadpoolctl)"
    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return "; ".join(
        f"{pool['internal_api']} {pool['version']}, {pool.get('architecture', 'unknown')} kernels, "
        f"{pool['num_threads']} threads ({pathlib.Path(pool['filepath']).name.split('-')[0]})"
        for pool in found
    )


def maps(quick):
    table = []
    for d in (1024, 4096):
        # Before POT, after which NumPy's decomposition may take three times as long in the same process.
        x, y = rows(d, 1, 0.0), rows(d, 2, 1.0)
        svd, move = median(lambda: pca_ot(x, y), 15)
        table.append((f"PCA-OT, K = 2, d = {d}", "NumPy, SVD of the stacked rows", svd,
                      ours(f"fit/pca-ot/{d}"), off(mapped(f"pca-ot-{d}"), move(x[:4]))))
    for d, times in ((1024, 5), (4096, 1)):
        if not (quick and d == 4096):
            x, y = rows(d, 1, 0.0), rows(d, 2, 1.0)
            peer, (a, b) = median(lambda: ot.gaussian.empirical_bures_wasserstein_mapping(x, y, reg=1e-6), times)
            table.append((f"OT in all d = {d}, reg 1e-6", "POT empirical_bures_wasserstein_mapping", peer,
                          ours(f"fit/ot-reg/{d}"), off(mapped(f"ot-reg-{d}"), np.real(x[:4] @ a + b))))
    ways = ((ours("layers/pca-ot"), "one after the other"), (ours("layers/pca-ot-parallel"), "in parallel"))
    mine, way = min(ways)
    table.append((f"PCA-OT of 32 layers, d = 4096, {way}", "NumPy, two such SVDs", 2 * svd, mine, None))
    lines = ["| job | peer | peer, ms | Brenier, ms | ratio | off |", "|---|---|---|---|---|---|"]
    for job, name, peer, mine, apart in table:
        apart = "" if apart is None else f"{apart:.0e}"
        lines.append(f"| {job} | {name} | {peer * 1e3:.1f} | {mine * 1e3:.2f} | {peer / mine:.3g} | {apart} |")
    for d in (1024, 4096):
        lines.append(f"| OT in all d = {d}, no regulariser | none: POT's root is singular | | {ours(f'fit/ot/{d}') * 1e3:.2f} | | |")
    other, other_way = max(ways)
    lines += ["", f"The 32 layers {other_way}: {other * 1e3:.2f} ms."]
    return lines


def memory():
    """Maps are bound by memory: their peers are the plainest ways to move the same rows through it."""
    copy, add = ours("apply/copy"), ours("apply/add")
    lines = ["| 4096 rows of 4096, f32 | ms | copy / this | add / this |", "|---|---|---|---|"]
    for job, name in (
        ("a map in place", "pca-ot"),
        ("the map under a gate", "gated"),
        ("the map on columns", "columns"),
        ("copy: into other memory, one thread", "copy"),
        ("add: a number, in place, all threads", "add"),
    ):
        mine = ours(f"apply/{name}")
        lines.append(f"| {job} | {mine * 1e3:.2f} | {copy / mine:.3g} | {add / mine:.3g} |")
    return lines


def main(quick):
    lines = [
        "# Maps against peers",
        "",
        "128 + 128 rows in f64, certificates included. Written by `benches/peers/compare.py` after",
        "`cargo bench -p brenier-benches`, one after the other on one idle machine. Medians on both sides: ours is criterion's, the peer's of",
        "5 to 15 calls after one to warm up (of one such call for POT at d = 4096). Ratio: the peer's time over ours. `off`: largest difference of",
        "mapped source rows, relative to the largest entry.",
        "",
        f"{processor()}, {os.cpu_count()} cores; {platform.system()}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, POT {ot.__version__}.",
        f"{kernels()}.",
        "",
        *maps(quick),
        "",
        *memory(),
    ]
    if not quick:
        (ROOT / "benches" / "record" / "maps.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


main(quick="--quick" in sys.argv[1:])

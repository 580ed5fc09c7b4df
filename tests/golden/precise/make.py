"""Optimal maps between ill-conditioned Gaussians in 50 digits, for brenier-transport.

Run with `python make.py` in this directory; needs numpy, mpmath and safetensors (versions in VERSIONS.txt).

rows-*.safetensors hold float64 rows whose sample covariances have about the condition number of the name, and, computed
from those very float64 rows in 50 decimal digits and rounded once at the end: the matrix A of the optimal map, what
becomes of probe rows, W2, and the condition number; by the definitions of docs/MATH.md section 1, through matrix roots
(mpmath's eigsy). covariance-*.safetensors hold two float64 covariance matrices (exactly symmetric) in place of rows.

`shared`: the target is the source moved by a matrix with eigenvalues from 1/2 to 2, so that the two are thin in the same
directions and the map is about that matrix. `crossed`: the two have axes of their own, the target is thick where the
source is thin, and the map's norm grows with the condition number. `flat`: `shared`, in a space of 8 dimensions of which
the rows vary in 5. `wide`: the same with 3 and 4 rows, of which the source varies in 2 directions; on the source's null
space A is the identity.
"""

import sys

import mpmath as mp
import numpy as np
import safetensors
from safetensors.numpy import save_file

mp.mp.dps = 50
D, N_S, N_T = 5, 12, 9


def root(s):
    values, vectors = mp.eigsy(s)
    return vectors * mp.diag([mp.sqrt(max(v, 0)) for v in values]) * vectors.T


def monge(s_s, s_t):
    """A: the optimal map on the range of the source, the identity on its null space."""
    values, vectors = mp.eigsy(s_s)
    kept = [i for i in range(len(values)) if values[i] > max(values) * mp.mpf(10) ** -30]
    v = mp.matrix([[vectors[i, j] for j in kept] for i in range(s_s.rows)])
    half = root(v.T * s_s * v)
    inverse = half**-1
    inside = inverse * root(half * v.T * s_t * v * half) * inverse
    condition = max(values) / values[kept[0]]
    return v * (inside - mp.eye(len(kept))) * v.T + mp.eye(s_s.rows), condition


def moments(rows):
    n, d = rows.rows, rows.cols
    mean = mp.matrix([[sum(rows[i, j] for i in range(n)) / n for j in range(d)]])
    centred = mp.matrix([[rows[i, j] - mean[0, j] for j in range(d)] for i in range(n)])
    return mean, centred.T * centred / (n - 1)


def solution(m_s, m_t, s_s, s_t, probe):
    a, condition = monge(s_s, s_t)
    trace = lambda m: sum(m[i, i] for i in range(m.rows))
    half = root(s_s)
    bures = trace(s_s) + trace(s_t) - 2 * trace(root(half * s_t * half))
    apart = m_s - m_t
    mapped = [double((m_t.T + a * (probe[i, :] - m_s).T).T)[0] for i in range(probe.rows)]
    return {
        "matrix": double(a),
        "mapped": np.array(mapped),
        "w2": np.array([float(mp.sqrt((apart * apart.T)[0, 0] + bures))]),
        "condition": np.array([float(condition)]),
    }


def double(m):
    return np.array([[float(m[i, j]) for j in range(m.cols)] for i in range(m.rows)])


def exact(x):
    """The float64 numbers themselves."""
    return mp.matrix([[mp.mpf(float(v)) for v in row] for row in np.atleast_2d(x)])


def axes(rng):
    return np.linalg.qr(rng.standard_normal((D, D)))[0]


def roots(rng, condition, form):
    """Two matrices R whose R^T R are the two covariances (for rows, but for a factor near one)."""
    source = np.diag(np.geomspace(1.0, condition**-0.5, D)) @ axes(rng)
    if form == "shared":
        turn = axes(rng)
        return source, source @ turn.T @ np.diag(np.geomspace(0.5, 2.0, D)) @ turn
    return source, 0.5 * np.diag(np.geomspace(1.0, condition**-0.5, D)) @ axes(rng)


def of_rows(rng, condition, form):
    def white(n):
        """Centred rows whose covariance is the identity but for one shear, so that no class is simpler than the other."""
        columns = np.linalg.qr(np.c_[np.ones(n), rng.standard_normal((n, D))])[0][:, 1:]
        return columns * np.sqrt(n - 1) @ (np.eye(D) + 0.1 * np.triu(rng.standard_normal((D, D)), 1))

    of_source, of_target = roots(rng, condition, form)
    source = white(N_S) @ of_source + rng.standard_normal(D)
    target = white(N_T) @ of_target + rng.standard_normal(D)
    probe = source[:4] + 0.5 * (source[4:8] - source[8:12])
    return fitted(source, target, probe)


def fitted(source, target, probe):
    (m_s, s_s), (m_t, s_t) = moments(exact(source)), moments(exact(target))
    out = {"source": source, "target": target, "probe": probe}
    return out | solution(m_s, m_t, s_s, s_t, exact(probe))


def of_flat_rows(rng, condition, form):
    """Rows of the form `shared` on five-bit axes of a wider space: products are exact, and so is the rank."""
    thin = of_rows(rng, condition, "shared")
    count = {"flat": (N_S, N_T), "wide": (3, 4)}[form]
    lift = rng.integers(-15, 16, (D, 8)).astype(float)
    rounded = lambda x: np.round(x * 2.0**40) / 2.0**40
    source, target, probe = (rounded(thin[name]) @ lift for name in ("source", "target", "probe"))
    return fitted(source[: count[0]], target[: count[1]], probe)


def of_covariances(rng, condition, form):
    of_source, of_target = roots(rng, condition, form)
    s_s, s_t = ((m + m.T) / 2 for m in (of_source.T @ of_source, of_target.T @ of_target))
    m_s, m_t = rng.standard_normal(D), rng.standard_normal(D)
    probe = m_s + rng.standard_normal((4, D)) @ of_source
    out = {"mean_s": m_s, "mean_t": m_t, "covariance_s": s_s, "covariance_t": s_t, "probe": probe}
    return out | solution(exact(m_s), exact(m_t), exact(s_s), exact(s_t), exact(probe))


CASES = [
    ("rows", "shared", of_rows),
    ("rows", "crossed", of_rows),
    ("rows", "flat", of_flat_rows),
    ("rows", "wide", of_flat_rows),
    ("covariance", "shared", of_covariances),
    ("covariance", "crossed", of_covariances),
]
for seed, (kind, form, make) in enumerate(CASES):
    for digits in (0, 4, 8, 12):
        tensors = make(np.random.default_rng([seed, digits]), 10.0**digits, form)
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, f"{kind}-{form}-1e{digits}.safetensors")
with open("VERSIONS.txt", "w") as file:
    versions = {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "mpmath": mp.__version__,
        "safetensors": safetensors.__version__,
    }
    file.writelines(f"{name} {version}\n" for name, version in versions.items())

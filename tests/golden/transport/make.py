"""Reference values for brenier-transport, in float64.

Run with `python make.py` in this directory; needs numpy, scipy, POT and safetensors (versions in VERSIONS.txt).
Rows are rounded to float32 first, so that a reader that widens float32 sees the very same numbers.

peer-*.safetensors hold what POT computes; plain-*.safetensors hold the textbook formulas of docs/MATH.md through
d x d matrices and numpy's eigh: the long way round, which the library never takes.
"""

import sys

import numpy as np
import ot
import scipy
import scipy.special
import scipy.stats
from safetensors.numpy import save_file


def rows(rng, n, d, condition, mean):
    scale = np.geomspace(1.0, condition**-0.5, d)
    turn, _ = np.linalg.qr(rng.standard_normal((d, d)))
    x = rng.standard_normal((n, d)) * scale @ turn + mean
    return x.astype(np.float32)


def root(s):
    w, v = np.linalg.eigh(s)
    return (v * np.sqrt(np.maximum(w, 0))) @ v.T


def monge(s_s, s_t):
    half = root(s_s)
    inverse = np.linalg.inv(half)
    a = inverse @ root(half @ s_t @ half) @ inverse
    return (a + a.T) / 2


def bures_w2(m_s, m_t, s_s, s_t):
    half = root(s_s)
    cross = np.trace(root(half @ s_t @ half))
    return np.sqrt(np.sum((m_s - m_t) ** 2) + np.trace(s_s) + np.trace(s_t) - 2 * cross)


def peer(name, seed, n_s, n_t, d, condition, reg):
    """What POT says of two sets of rows."""
    rng = np.random.default_rng(seed)
    source = rows(rng, n_s, d, condition, rng.standard_normal(d))
    target = rows(rng, n_t, d, condition, rng.standard_normal(d))
    x, y = source.astype(np.float64), target.astype(np.float64)
    a, b, log = ot.gaussian.empirical_bures_wasserstein_mapping(x, y, reg=reg, log=True)
    w2 = ot.gaussian.bures_wasserstein_distance(
        x.mean(0), y.mean(0), np.asarray(log["Cs"]), np.asarray(log["Ct"])
    )
    save_file(
        {
            "source": source,
            "target": target,
            "matrix": np.ascontiguousarray(np.real(a)),
            "bias": np.ascontiguousarray(np.real(b).reshape(-1)),
            "reg": np.array([reg]),
            "w2": np.array([float(np.real(w2))]),
        },
        f"peer-{name}.safetensors",
    )


def plain(name, seed, n_s, n_t, d, k):
    """Every formula of docs/MATH.md sections 1, 3 and 3b on two sets of rows, applied to fresh ones."""
    rng = np.random.default_rng(seed)
    source = rows(rng, n_s, d, 50.0, rng.standard_normal(d))
    target = rows(rng, n_t, d, 50.0, rng.standard_normal(d))
    probe = rows(rng, 5, d, 50.0, 0.0)
    x, y, z = (m.astype(np.float64) for m in (source, target, probe))
    m_s, m_t = x.mean(0), y.mean(0)
    out = {"source": source, "target": target, "probe": probe, "components": np.array([float(k)])}

    def axes(weights, centre):
        pooled = np.concatenate([x, y]) - centre
        _, _, vt = np.linalg.svd(pooled * np.sqrt(weights)[:, None], full_matrices=False)
        return vt[:k].T

    def pca_ot(p, shift):
        a = monge(np.cov(x @ p, rowvar=False).reshape(k, k), np.cov(y @ p, rowvar=False).reshape(k, k))
        return z + shift + (z - m_s) @ p @ (a - np.eye(k)) @ p.T

    n = n_s + n_t
    p = axes(np.full(n, 1 / n), np.concatenate([x, y]).mean(0))
    out["pca-ot/subspace"] = pca_ot(p, p @ p.T @ (m_t - m_s))
    out["pca-ot/full"] = pca_ot(p, m_t - m_s)
    halves = np.concatenate([np.full(n_s, 0.5 / n_s), np.full(n_t, 0.5 / n_t)])
    q = axes(halves, (m_s + m_t) / 2)
    out["pca-ot/classes"] = pca_ot(q, q @ q.T @ (m_t - m_s))

    # The gate with unregularised covariances, by two densities of scipy.
    density = [scipy.stats.multivariate_normal((w @ p).mean(0), np.cov(w @ p, rowvar=False)) for w in (x, y)]
    odds = density[0].logpdf(z @ p) - density[1].logpdf(z @ p)
    out["gated/log-odds"] = np.atleast_1d(odds)
    out["gated/mapped"] = z + scipy.special.expit(odds)[:, None] * (out["pca-ot/subspace"] - z)

    if min(n_s, n_t) > d:
        s_s, s_t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        out["ot"] = m_t + (z - m_s) @ monge(s_s, s_t)
        out["w2"] = np.array([bures_w2(m_s, m_t, s_s, s_t)])

    def shrunk(w, a):
        s = np.cov(w, rowvar=False)
        return (1 - a) * s + a * np.trace(s) / d * np.eye(d)

    # Regular for any n; the two traces differ, so the complement is scaled.
    out["ot/shrunk-0.1"] = m_t + (z - m_s) @ monge(shrunk(x, 0.1), shrunk(y, 0.1))

    def ledoit_wolf(w):
        """Straight from the definition (Ledoit & Wolf 2004, section 3.3)."""
        c = w - w.mean(0)
        s = c.T @ c / len(c)
        m = np.trace(s) / d
        e = np.sum((s - m * np.eye(d)) ** 2) / d
        b = sum(np.sum((np.outer(r, r) - s) ** 2) for r in c) / len(c) ** 2 / d
        return min(b, e) / e

    out["ledoit-wolf"] = np.array([ledoit_wolf(x), ledoit_wolf(y)])
    out["ot/shrunk-auto"] = m_t + (z - m_s) @ monge(shrunk(x, ledoit_wolf(x)), shrunk(y, ledoit_wolf(y)))

    r = m_s - m_t
    r /= np.linalg.norm(r)
    out["mean"] = z + m_t - m_s
    out["rfa"] = z - np.outer(z @ r, r)
    out["ace"] = z - np.outer((z - m_t) @ r, r)
    a = np.sort(x, 0) - m_s
    b = (np.sort(y, 0) if n_s == n_t else np.quantile(y, np.linspace(0, 1, n_s), axis=0)) - m_t
    w = (a * b).sum(0) / (a * a).sum(0)
    out["act-linear"] = w * z + m_t - w * m_s
    w = y.std(0, ddof=1) / x.std(0, ddof=1)
    out["act-gaussian"] = w * z + m_t - w * m_s
    save_file({key: np.ascontiguousarray(value) for key, value in out.items()}, f"plain-{name}.safetensors")


peer("tall", 1, 200, 150, 6, 30.0, 1e-6)
peer("regular", 2, 60, 80, 12, 1e3, 1e-2)
peer("wide", 3, 9, 11, 24, 10.0, 5e-2)  # fewer rows than columns: regular by the regulariser alone
plain("tall", 4, 70, 50, 8, 3)
plain("even", 5, 40, 40, 10, 2)
plain("wide", 6, 14, 10, 40, 2)
with open("VERSIONS.txt", "w") as file:
    versions = {"python": sys.version.split()[0], "numpy": np.__version__, "scipy": scipy.__version__, "POT": ot.__version__}
    file.writelines(f"{name} {version}\n" for name, version in versions.items())

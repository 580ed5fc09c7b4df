"""Reference values for brenier-transport, in float64.

Run with `python make.py` in this directory; needs numpy, scipy, POT and safetensors (versions in VERSIONS.txt).
Rows are rounded to float32 first, so that a reader that widens float32 sees the very same numbers.

peer-*.safetensors hold what POT computes; plain-*.safetensors hold the textbook formulas of docs/MATH.md through
d x d matrices and numpy's eigh: the long way round, which the library never takes. gaussians.safetensors holds POT's
barycentre, one-dimensional and sliced distances and a Sinkhorn solution on a grid, beside the textbook formulas of
entropic transport, whitening and the geodesic.
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


def entropic(s_s, s_t, sigma):
    """Janati et al. 2020, theorem 1 and the barycentric map of its plan; and the cost without the means."""
    half = root(s_s)
    inverse = np.linalg.inv(half)
    d = len(s_s)
    middle = half @ s_t @ half
    e = inverse @ root(middle + sigma**4 / 4 * np.eye(d)) @ inverse - sigma**2 / 2 * np.linalg.inv(s_s)
    big = root(4 * middle + sigma**4 * np.eye(d))
    cost = np.trace(s_s) + np.trace(s_t) - np.trace(big) + d * sigma**2 * (1 - np.log(2 * sigma**2))
    return (e + e.T) / 2, cost + sigma**2 * np.linalg.slogdet(big + sigma**2 * np.eye(d))[1]


def sinkhorn(m_s, d_s, m_t, d_t, sigma):
    """Slope of the barycentric map and entropic cost of two Gaussians on a grid, by POT: no closed form at all."""
    x = np.linspace(-14, 14, 1401)
    a, b = (np.exp(-((x - m) ** 2) / (2 * d * d)) for m, d in ((m_s, d_s), (m_t, d_t)))
    a, b = a / a.sum(), b / b.sum()
    cost = (x[:, None] - x[None]) ** 2
    plan = ot.sinkhorn(a, b, cost, reg=2 * sigma**2, method="sinkhorn_log", numItermax=2000, stopThr=1e-14)
    near = np.abs(x - m_s) < 3 * d_s
    moved = (plan @ x)[near] / plan.sum(1)[near]
    product = np.outer(plan.sum(1), plan.sum(0))
    kl = np.sum(plan[plan > 0] * np.log(plan[plan > 0] / product[plan > 0]))
    return np.polyfit(x[near] - m_s, moved, 1), np.sum(plan * cost) + 2 * sigma**2 * kl


def gaussians():
    rng = np.random.default_rng(7)
    d = 5
    source, target = rows(rng, 60, d, 40.0, rng.standard_normal(d)), rows(rng, 45, d, 40.0, rng.standard_normal(d))
    probe = rows(rng, 5, d, 50.0, 0.0)
    x, y, z = (m.astype(np.float64) for m in (source, target, probe))
    m_s, m_t, s_s, s_t = x.mean(0), y.mean(0), np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    out = {"source": source, "target": target, "probe": probe}
    for sigma in (0.05, 0.7, 5.0):
        e, cost = entropic(s_s, s_t, sigma)
        out[f"entropic/{sigma}"] = m_t + (z - m_s) @ e
        out[f"entropic-cost/{sigma}"] = np.array([cost + np.sum((m_s - m_t) ** 2)])
    (slope, at_mean), cost = sinkhorn(0.3, 0.8, -1.0, 1.7, 0.9)
    out["sinkhorn"] = np.array([0.3, 0.8, -1.0, 1.7, 0.9, slope, at_mean, cost])
    out["whitening"] = m_t + (z - m_s) @ np.linalg.inv(root(s_s)) @ root(s_t)
    out["act-mean"] = z + m_t - m_s
    inside = (np.quantile(x, 0.1, axis=0) < z) & (z < np.quantile(x, 0.9, axis=0))
    out["act-mean/quantiles"] = np.where(inside, z + m_t - m_s, z)
    for t in (0.25, 0.8):
        step = (1 - t) * np.eye(d) + t * monge(s_s, s_t)
        out[f"geodesic/{t}"] = step @ s_s @ step

    covariances = np.stack([np.cov(rows(rng, 40, d, 30.0, 0.0).astype(np.float64), rowvar=False) for _ in range(4)])
    means, weights = rng.standard_normal((4, d)), np.array([0.1, 0.4, 0.2, 0.3])
    mean, covariance = ot.gaussian.bures_wasserstein_barycenter(means, covariances, weights, num_iter=5000, eps=1e-14)
    out |= {"barycenter/weights": weights, "barycenter/means": means, "barycenter/mean": mean}
    out |= {f"barycenter/covariance-{i}": c for i, c in enumerate(covariances)}
    out["barycenter/covariance"] = covariance

    for n in (7, 12):  # 13 others: no common divisor
        a, b = np.sort(rng.standard_normal(n)), np.sort(2 * rng.standard_normal(13) + 1)
        out |= {f"1d/{n}/a": a, f"1d/{n}/b": b, f"1d/{n}": np.array([np.sqrt(ot.wasserstein_1d(a, b, p=2))])}
    along = rng.standard_normal((d, 9))
    along /= np.linalg.norm(along, axis=0)
    out["sliced/directions"] = along
    out["sliced"] = np.array([ot.sliced_wasserstein_distance(x, y, projections=along, p=2)])
    save_file({key: np.ascontiguousarray(np.real(value)) for key, value in out.items()}, "gaussians.safetensors")


peer("tall", 1, 200, 150, 6, 30.0, 1e-6)
peer("regular", 2, 60, 80, 12, 1e3, 1e-2)
peer("wide", 3, 9, 11, 24, 10.0, 5e-2)  # fewer rows than columns: regular by the regulariser alone
plain("tall", 4, 70, 50, 8, 3)
plain("even", 5, 40, 40, 10, 2)
plain("wide", 6, 14, 10, 40, 2)
gaussians()
with open("VERSIONS.txt", "w") as file:
    versions = {"python": sys.version.split()[0], "numpy": np.__version__, "scipy": scipy.__version__, "POT": ot.__version__}
    file.writelines(f"{name} {version}\n" for name, version in versions.items())

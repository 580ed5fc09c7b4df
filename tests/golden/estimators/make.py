"""Reference values for shrinkage, probabilistic PCA and weighted rows, in float64.

Run with `python make.py` in this directory; needs numpy, POT, scikit-learn and safetensors (versions in VERSIONS.txt).
Rows are rounded to float32 first, so that a reader that widens float32 sees the very same numbers.

`pot/*` is what POT computes, `sklearn/*` what scikit-learn computes; `plain/*` are textbook formulas through d x d
matrices, with numpy's weighted covariances (`aweights`), whose divisor is that of reliability weights.
"""

import sys

import numpy as np
import ot
import sklearn
from safetensors.numpy import save_file
from sklearn.covariance import oas
from sklearn.decomposition import PCA


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


def case(name, seed, n_s, n_t, d, q, k, reg):
    rng = np.random.default_rng(seed)
    source = rows(rng, n_s, d, 50.0, rng.standard_normal(d))
    target = rows(rng, n_t, d, 50.0, rng.standard_normal(d))
    probe = rows(rng, 5, d, 50.0, 0.0)
    x, y, z = (m.astype(np.float64) for m in (source, target, probe))
    ws, wt = rng.gamma(1.0, size=n_s), rng.gamma(2.0, size=n_t)
    out = {"source": source, "target": target, "probe": probe, "weights/source": ws, "weights/target": wt}
    out |= {"latent": np.array([float(q)]), "components": np.array([float(k)]), "reg": np.array([reg])}
    out["sklearn/oas"] = np.array([oas(x)[1], oas(y)[1]])

    def mapped(a, b):
        return z @ np.real(a) + np.real(b).reshape(-1)

    hd = ot.gaussian.empirical_bures_wasserstein_mapping_hd
    out["pot/hd"] = mapped(*hd(x, y, q))
    out["pot/hd-reg"] = mapped(*hd(x, y, [q, q], reg=reg))
    out["pot/hd-weights"] = mapped(*hd(x, y, q, ws=ws[:, None], wt=wt[:, None]))
    ordinary = ot.gaussian.empirical_bures_wasserstein_mapping
    out["pot/weights"] = mapped(*ordinary(x, y, reg=reg, ws=ws[:, None], wt=wt[:, None]))

    def moments(w, weights):
        return np.average(w, axis=0, weights=weights), np.cov(w, rowvar=False, aweights=weights)

    (m_s, s_s), (m_t, s_t) = moments(x, ws), moments(y, wt)
    eye = np.eye(d)
    out["plain/sample"] = m_t + (z - m_s) @ monge(s_s + reg * eye, s_t + reg * eye)
    w = np.sqrt(np.diag(s_t) / np.diag(s_s))
    out["plain/act-gaussian"] = w * z + m_t - w * m_s

    # Principal axes of the pool, in which every unit of weight counts the same.
    both, weights = np.concatenate([x, y]), np.concatenate([ws, wt])
    centre = np.average(both, axis=0, weights=weights)
    _, _, vt = np.linalg.svd((both - centre) * np.sqrt(weights)[:, None], full_matrices=False)
    p = vt[:k].T
    a = monge(p.T @ s_s @ p, p.T @ s_t @ p)
    out["plain/pca-ot"] = z + (m_t - m_s) @ p @ p.T + (z - m_s) @ p @ (a - np.eye(k)) @ p.T

    # Least-squares erasure with the pooled covariance; its pseudo-inverse serves where the rows are few.
    pooled = (both - centre).T @ ((both - centre) * weights[:, None]) / weights.sum()
    r = m_s - m_t
    v = np.linalg.pinv(pooled, rcond=1e-10, hermitian=True) @ r
    out["plain/leace"] = z - np.outer((z - centre) @ v / (v @ r), r)

    if n_s > d:
        # Where n < d its noise variance is a mean over n - q eigenvalues and not d - q, hence another model.
        model = PCA(n_components=q, svd_solver="full").fit(x)
        out["sklearn/ppca"] = np.array([model.score(x), model.noise_variance_])
    save_file({key: np.ascontiguousarray(value) for key, value in out.items()}, f"{name}.safetensors")


case("tall", 1, 60, 45, 6, 2, 2, 1e-2)
case("wide", 2, 12, 15, 40, 4, 2, 5e-2)
with open("VERSIONS.txt", "w") as file:
    versions = {"python": sys.version.split()[0], "numpy": np.__version__}
    versions |= {"POT": ot.__version__, "scikit-learn": sklearn.__version__}
    file.writelines(f"{name} {version}\n" for name, version in versions.items())

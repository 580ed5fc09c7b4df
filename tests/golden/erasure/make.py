"""Reference values for concept erasure (LEACE), in float64.

Run with `python make.py` in this directory; needs numpy, torch, concept-erasure and safetensors (versions in
VERSIONS.txt). `peer` is what concept-erasure's LeaceFitter does to the probe without its own shrinkage and without its
bound on the trace, and with a tolerance below every singular value; `plain` is the formula of Belrose et al. 2023,
theorem 4.3, through d x d matrices, the covariance over n - 1 or shrunk (which moves the erasure, unlike the divisor).
"""

import sys
from importlib.metadata import version

import numpy as np
import torch
from concept_erasure import LeaceFitter
from safetensors.numpy import save_file


def power(s, exponent):
    w, v = np.linalg.eigh(s)
    kept = w > w[-1] * len(w) * np.finfo(float).eps
    return (v[:, kept] * w[kept] ** exponent) @ v[:, kept].T


def plain(x, z, shrinkage):
    d = x.shape[1]
    s = np.cov(x, rowvar=False)
    s = (1 - shrinkage) * s + shrinkage * np.trace(s) / d * np.eye(d)
    across = (x - x.mean(0)).T @ (z - z.mean())
    w = power(s, -0.5)
    u = w @ across
    u /= np.linalg.norm(u)
    return power(s, 0.5) @ np.outer(u, u) @ w


def case(name, seed, n_s, n_t, d, span):
    rng = np.random.default_rng(seed)
    lift = rng.standard_normal((span, d)) if span < d else np.linalg.qr(rng.standard_normal((d, d)))[0]
    scale = np.geomspace(1.0, 0.1, span)
    gap = np.concatenate([[1.5], np.full(span - 1, 0.2)])
    source = ((rng.standard_normal((n_s, span)) * scale + gap) @ lift + 2.0).astype(np.float32)
    target = ((rng.standard_normal((n_t, span)) * scale) @ lift + 2.0).astype(np.float32)
    probe = (rng.standard_normal((5, d)) + 2.0).astype(np.float32)
    x = np.concatenate([source, target]).astype(np.float64)
    z = np.concatenate([np.ones(n_s), np.zeros(n_t)])
    fitter = LeaceFitter(
        d, 1, dtype=torch.float64, constrain_cov_trace=False, shrinkage=False, svd_tol=1e-12
    ).update(torch.from_numpy(x), torch.from_numpy(z)[:, None])
    wide = probe.astype(np.float64)
    out = {"source": source, "target": target, "probe": probe, "peer": fitter.eraser(torch.from_numpy(wide)).numpy()}
    for shrinkage in (0.0, 0.1):
        out[f"plain/{shrinkage}"] = wide - (wide - x.mean(0)) @ plain(x, z, shrinkage).T
    save_file({key: np.ascontiguousarray(value) for key, value in out.items()}, f"{name}.safetensors")


case("tall", 1, 60, 40, 7, 7)
case("even", 2, 25, 25, 12, 12)
case("wide", 3, 9, 12, 40, 40)  # fewer rows than columns: rank 20
with open("VERSIONS.txt", "w") as file:
    file.write(f"python {sys.version.split()[0]}\n")
    file.writelines(f"{name} {version(name)}\n" for name in ("numpy", "torch", "concept-erasure", "safetensors"))

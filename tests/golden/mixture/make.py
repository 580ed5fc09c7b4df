"""Reference values for Gaussian-mixture transport, in float64, from POT's `ot.gmm`.

Run with `python make.py` in this directory; needs numpy, scipy, POT and safetensors (versions in VERSIONS.txt).
"""

import sys

import numpy as np
import ot
import scipy
import scipy.special
from ot.gmm import dist_bures_squared, gaussian_logpdf, gmm_ot_apply_map, gmm_ot_loss, gmm_ot_plan
from safetensors.numpy import save_file


def mixture(rng, k, d, spread):
    """Weights, means and covariances of condition up to about 30."""
    weights = rng.dirichlet(np.full(k, 3.0))
    means = spread * rng.standard_normal((k, d))
    turns = [np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(k)]
    covariances = np.stack([(q * rng.uniform(0.1, 3.0, d)) @ q.T for q in turns])
    return weights, means, (covariances + covariances.transpose(0, 2, 1)) / 2


def case(name, seed, k_s, k_t, d, spread):
    rng = np.random.default_rng(seed)
    w_s, m_s, c_s = mixture(rng, k_s, d, spread)
    w_t, m_t, c_t = mixture(rng, k_t, d, spread)
    x = spread * rng.standard_normal((12, d))
    log = np.stack([np.log(w) + gaussian_logpdf(x, m, c) for w, m, c in zip(w_s, m_s, c_s)])
    out = {
        "source.weights": w_s,
        "source.means": m_s,
        "source.covariances": c_s.reshape(k_s * d, d),
        "target.weights": w_t,
        "target.means": m_t,
        "target.covariances": c_t.reshape(k_t * d, d),
        "x": x,
        "cost": dist_bures_squared(m_s, m_t, c_s, c_t),
        "plan": gmm_ot_plan(m_s, m_t, c_s, c_t, w_s, w_t),
        "loss": np.array([float(gmm_ot_loss(m_s, m_t, c_s, c_t, w_s, w_t))]),
        "mapped": gmm_ot_apply_map(x, m_s, m_t, c_s, c_t, w_s, w_t),
        "log-density": scipy.special.logsumexp(log, axis=0),
    }
    save_file({key: np.ascontiguousarray(np.real(value)) for key, value in out.items()}, f"{name}.safetensors")


case("even", 1, 3, 3, 2, 3.0)
case("more", 2, 2, 5, 4, 1.5)
case("fewer", 3, 6, 2, 3, 1.0)
case("line", 4, 4, 3, 1, 2.0)
with open("VERSIONS.txt", "w") as file:
    versions = {"python": sys.version.split()[0], "numpy": np.__version__, "scipy": scipy.__version__, "POT": ot.__version__}
    file.writelines(f"{name} {version}\n" for name, version in versions.items())

"""How far other libraries are from the 50-digit values of make.py: the table in docs/COMPARE.md.

    python peers.py         # numpy, safetensors; POT, concept-erasure and ott-jax, those that are installed

For every golden: the relative error of the matrix A, of mapped rows, and of W2 (on a null space of the source A is a
convention, and only the rows compare). `-` where a library gives no numbers or
none that are finite.
"""

import warnings
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

warnings.simplefilter("ignore")
HERE = Path(__file__).parent


def pot(m_s, m_t, s_s, s_t):
    import ot

    return ot.gaussian.bures_wasserstein_mapping(m_s, m_t, s_s, s_t)[0], ot.gaussian.bures_wasserstein_distance(
        m_s, m_t, s_s, s_t
    )


def pot_reg(m_s, m_t, s_s, s_t):
    """With the default regulariser of POT's empirical_ functions."""
    ridge = 1e-6 * np.eye(len(m_s))
    return pot(m_s, m_t, s_s + ridge, s_t + ridge)


def erasure(m_s, m_t, s_s, s_t):
    import torch
    from concept_erasure.optimal_transport import ot_distance, ot_map

    s_s, s_t = torch.tensor(s_s), torch.tensor(s_t)
    return ot_map(s_s, s_t).numpy(), np.hypot(np.linalg.norm(m_s - m_t), ot_distance(s_s, s_t))


def ott(m_s, m_t, s_s, s_t):
    import jax

    jax.config.update("jax_enable_x64", True)
    from ott.tools.gaussian_mixture.gaussian import Gaussian

    source, target = (Gaussian.from_mean_and_cov(np.asarray(m), np.asarray(s)) for m, s in ((m_s, s_s), (m_t, s_t)))
    return np.asarray(source.scale.gaussian_map(target.scale)), np.sqrt(source.w2_dist(target))


def off(found, expected):
    error = np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected)
    return f"{error:.0e}" if np.isfinite(error) else "-"


def main():
    for form in ("rows-shared", "rows-crossed", "rows-flat", "rows-wide", "covariance-shared", "covariance-crossed"):
        for condition in ("1e0", "1e4", "1e8", "1e12"):
            t = load_file(HERE / f"{form}-{condition}.safetensors")
            if "source" in t:
                m_s, m_t = t["source"].mean(0), t["target"].mean(0)
                s_s, s_t = np.cov(t["source"].T), np.cov(t["target"].T)
            else:
                m_s, m_t, s_s, s_t = t["mean_s"], t["mean_t"], t["covariance_s"], t["covariance_t"]
            for peer in (pot, pot_reg, erasure, ott):
                try:
                    a, w2 = peer(m_s, m_t, s_s, s_t)
                    mapped = (t["probe"] - m_s) @ a.T + m_t
                    found = [off(a, t["matrix"]), off(mapped, t["mapped"]), off(w2, t["w2"])]
                except (ImportError, ValueError) as error:
                    found = [type(error).__name__]
                print(f"{form:<20} {condition:<5} {peer.__name__:<8}", *found)


main()

"""Reference values for Gaussian mixtures fitted to weighted rows, in float64.

Expectation maximisation written down once more, in shares of the weight instead of counts of rows, and run from many
starts until its parameters stand still; the best end is the reference. Run with `python make.py` in this directory;
needs numpy and safetensors (versions in VERSIONS.txt).
"""

import sys

import numpy as np
from safetensors.numpy import save_file

STARTS = 40
MOST = 3


def log_joint(x, weights, means, covariances):
    """`log pi_c N(x; m_c, S_c)`, `[n, C]`."""
    away = x[:, None, :] - means[None]
    square = np.einsum("ncj,cjk,nck->nc", away, np.linalg.inv(covariances), away)
    determinants = np.linalg.slogdet(covariances)[1]
    return np.log(weights) - 0.5 * (x.shape[1] * np.log(2 * np.pi) + determinants + square)


def log_density(joint):
    top = joint.max(axis=1, keepdims=True)
    return (top + np.log(np.exp(joint - top).sum(axis=1, keepdims=True)))[:, 0]


def effective(w):
    return w.sum() ** 2 / (w**2).sum()


def fit(x, w, count, prior_rows, floor, rng):
    """Shares, means, covariances, mean log-likelihood and objective a row of the best of many starts."""
    share, d = w / w.sum(), x.shape[1]
    # The prior's weight beside a total of 1.
    a = prior_rows / effective(w)
    away = x - share @ x
    s = (away * share[:, None]).T @ away
    s0 = s / count ** (2 / d) + floor * np.trace(s) / d * np.eye(d)
    best = None
    for _ in range(STARTS if count > 1 else 1):
        centres = x[rng.choice(len(x), count, replace=False)]
        nearest = ((x[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
        p, before = np.eye(count)[nearest], None
        for _ in range(5000):
            held = share[:, None] * p
            pi = held.sum(axis=0)
            means = (held.T @ x) / pi[:, None]
            off = x[None] - means[:, None]
            scatter = np.einsum("nc,cnj,cnk->cjk", held, off, off)
            covariances = (scatter + a * s0) / (pi + a)[:, None, None]
            joint = log_joint(x, pi, means, covariances)
            log = log_density(joint)
            p = np.exp(joint - log[:, None])
            now = np.concatenate([pi, means.ravel(), covariances.ravel()])
            if before is not None and np.abs(now - before).max() < 1e-15:
                break
            before = now
        traces = np.trace(np.linalg.inv(covariances) @ s0, axis1=1, axis2=2)
        prior = -0.5 * a * (np.linalg.slogdet(covariances)[1] + traces).sum()
        objective = share @ log + prior
        if best is None or objective > best[4] + 1e-12:
            best = (pi, means, covariances, share @ log, objective)
    order = np.argsort(-best[0])
    return best[0][order], best[1][order], best[2][order], best[3], best[4]


def case(name, seed, n, d, folds, prior_rows, floor):
    rng = np.random.default_rng(seed)
    centres = 2.2 * rng.standard_normal((MOST, d))
    which = rng.choice(MOST, n, p=[0.5, 0.3, 0.2])
    x = centres[which] + rng.standard_normal((n, d)) * rng.uniform(0.5, 1.2, (MOST, d))[which]
    # One group counts more than its rows, one less.
    w = rng.gamma(2.0, size=n) * np.array([0.5, 1.0, 2.5])[which]
    n_eff = effective(w)
    out = {"rows": x, "weights": w, "prior-rows": np.array([prior_rows]), "floor": np.array([floor])}
    out["folds"] = np.array([float(folds)])
    likelihoods, objectives, bic, held_out = [], [], [], []
    for count in range(1, MOST + 1):
        pi, means, covariances, likelihood, objective = fit(x, w, count, prior_rows, floor, rng)
        assert pi.min() * n_eff > 1, "else a component is left out"
        out |= {f"{count}.weights": pi, f"{count}.means": means}
        out[f"{count}.covariances"] = covariances.reshape(count * d, d)
        likelihoods.append(likelihood)
        objectives.append(objective)
        free = count - 1 + count * d + count * d * (d + 1) // 2
        bic.append(-likelihood + 0.5 * free * np.log(n_eff) / n_eff)
        loss = 0.0
        for fold in range(folds):
            kept = np.arange(n) % folds != fold
            pi, means, covariances, _, _ = fit(x[kept], w[kept], count, prior_rows, floor, rng)
            assert pi.min() * effective(w[kept]) > 1, "else a component is left out"
            loss -= w[~kept] @ log_density(log_joint(x[~kept], pi, means, covariances))
        held_out.append(loss / w.sum())
    out |= {"log-likelihood": np.array(likelihoods), "objective": np.array(objectives)}
    out |= {"bic": np.array(bic), "held-out": np.array(held_out)}
    print(name, "n_eff", n_eff, out["objective"], out["bic"], out["held-out"])
    save_file({key: np.ascontiguousarray(value) for key, value in out.items()}, f"{name}.safetensors")


case("plane", 1, 60, 2, 3, 1.0, 1e-6)
case("space", 2, 80, 3, 4, 2.5, 1e-3)
with open("VERSIONS.txt", "w") as file:
    file.writelines(f"{name} {version}\n" for name, version in {"python": sys.version.split()[0], "numpy": np.__version__}.items())

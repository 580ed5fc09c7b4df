"""The peer of `cargo run --release -p brenier-transport --example stream_moments`: the whole scatter, in NumPy.

    python moments.py [rows] [width] [batch]      (needs numpy)

The same rows (those of the example's source), made up batch by batch and outside of the time taken; the scatter is
`S += X.T @ X`, for which NumPy takes BLAS's symmetric product. What it prints goes to ../record/moments.md.
"""

import resource
import sys
import time

import numpy as np

asked = [int(x) for x in sys.argv[1:]]
ROWS, WIDTH, BATCH = asked + [50_000, 4096, 512][len(asked) :]
state = np.uint64(1 << 32)


def uniform(n):
    global state
    with np.errstate(over="ignore"):
        z = state + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = z[-1]
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) / 2.0**52 - 1.0


mean = 0.5 * uniform(WIDTH)
deviation = np.sqrt(3.0) * (1.0 + np.arange(WIDTH)) ** -0.75
mirrors = [v / np.linalg.norm(v) for v in (uniform(WIDTH), uniform(WIDTH))]


def batch(n):
    x = uniform(n * WIDTH).reshape(n, WIDTH) * deviation
    for v in mirrors:
        x -= np.outer(2.0 * (x @ v), v)
    return x + mean


scatter, total, spent = np.zeros((WIDTH, WIDTH)), np.zeros(WIDTH), 0.0
for at in range(0, ROWS, BATCH):
    x = batch(min(BATCH, ROWS - at))
    start = time.perf_counter()
    scatter += x.T @ x
    total += x.sum(0)
    spent += time.perf_counter() - start
m = total / ROWS
covariance = (scatter - ROWS * np.outer(m, m)) / (ROWS - 1)
print(f"NumPy {np.__version__}: {ROWS} rows of {WIDTH}: {spent:.1f} s, {ROWS / spent:.0f} rows/s")
print(f"trace {np.trace(covariance):.9f}, peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")

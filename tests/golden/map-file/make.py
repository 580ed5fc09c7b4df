"""Makes map files without Brenier, and rows edited by the PyTorch snippet of docs/guides/map-file.md itself.

    python make.py          # numpy 2, torch 2, safetensors 0.6 or newer; see VERSIONS.txt for those used

Writes `maps.safetensors` (maps of each kind, by the documented layout, with and without a gate) and `rows.safetensors`
(rows `x`, and for every map what becomes of them: in float64 at strengths 1 and -0.5, in float32 at strength 1).
"""

import json
import re
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.numpy import save_file

HERE = Path(__file__).parent
GUIDE = HERE / "../../../docs/guides/map-file.md"
D, R, K, N = 8, 3, 2, 5


def gate(rng):
    half = rng.normal(size=(K, K))
    return {
        "gate.basis": rng.normal(size=(D, K)) / np.sqrt(D),
        "gate.center": rng.normal(size=D),
        "gate.constant": np.array(0.3),
        "gate.linear": rng.normal(size=K),
        "gate.quadratic": half + half.T,
        "gate.temperature": np.array(1.5),
    }


def low_rank(rng, r):
    return {
        "scale": np.array(0.9),
        "mean": rng.normal(size=D),
        "offset": rng.normal(size=D),
        "u": rng.normal(size=(D, r)),
        "v": rng.normal(size=(D, r)),
    }


def symmetric(rng):
    half = rng.normal(size=(R, R))
    return {
        "scale": np.array(1.1),
        "mean": rng.normal(size=D),
        "offset": rng.normal(size=D),
        "basis": rng.normal(size=(D, R)) / np.sqrt(D),
        "core": half + half.T,
    }


def diagonal(rng):
    return {"weight": rng.normal(size=D), "bias": rng.normal(size=D)}


def dense(rng):
    return {"matrix": rng.normal(size=(D, D)), "bias": rng.normal(size=D)}


def mixture(rng, pieces):
    half = rng.normal(size=(pieces, K, K))
    return {
        "center": rng.normal(size=D),
        "offset": rng.normal(size=D),
        "u": rng.normal(size=(D, K)),
        "v": rng.normal(size=(D, K)) / np.sqrt(D),
        "constant": rng.normal(size=pieces),
        "linear": rng.normal(size=(pieces, K)),
        "quadratic": (half + half.transpose(0, 2, 1)) / 2,
        "matrix": rng.normal(size=(pieces, K, K)),
        "shift": rng.normal(size=(pieces, K)),
    }


RANGE = {"range.lo": np.full(D, -0.5), "range.hi": np.full(D, 0.5)}


def main():
    rng = np.random.default_rng(7)
    maps = {
        "low-rank": ("low-rank", low_rank(rng, R)),
        "shift": ("low-rank", low_rank(rng, 0)),
        "gated": ("low-rank", low_rank(rng, R) | gate(rng)),
        "shut": ("low-rank", low_rank(rng, R) | gate(rng) | {"gate.threshold": np.array(0.5)}),
        "diagonal": ("diagonal", diagonal(rng)),
        "ranged": ("diagonal", diagonal(rng) | RANGE),
        "dense": ("dense", dense(rng)),
        "ranged-gated": ("diagonal", diagonal(rng) | RANGE | gate(rng)),
        "dense-gated": ("dense", dense(rng) | gate(rng)),
        "mixture": ("mixture", mixture(rng, 3)),
        "mixture-gated": ("mixture", mixture(rng, 2) | gate(rng)),
        "symmetric": ("symmetric", symmetric(rng)),
        "symmetric-gated": ("symmetric", symmetric(rng) | gate(rng)),
    }
    entries = {name: {"kind": kind, "method": "by hand", "certificate": {}} for name, (kind, _) in maps.items()}
    tensors = {f"{name}.{part}": value for name, (_, parts) in maps.items() for part, value in parts.items()}
    path = HERE / "maps.safetensors"
    save_file(tensors, path, {"format": "brenier.map/1", "entries": json.dumps(entries)})

    snippet = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.S).group(1)
    scope = {}
    exec(snippet, scope)
    x = rng.normal(size=(N, D))
    rows = {"x": x}
    for name in maps:
        for label, strength in [("1", 1.0), ("-0.5", -0.5)]:
            rows[f"{name}.{label}"] = scope["edit"](path, name, torch.tensor(x), strength).numpy()
        rows[f"{name}.f32"] = scope["edit"](path, name, torch.tensor(x, dtype=torch.float32)).numpy()
    save_file(rows, HERE / "rows.safetensors")
    versions = {"numpy": np.__version__, "torch": torch.__version__, "safetensors": safetensors.__version__}
    (HERE / "VERSIONS.txt").write_text("".join(f"{name} {version}\n" for name, version in versions.items()))


main()

"""Makes map files without Brenier, and rows edited by the Python snippet of docs/guides/map-file.md itself.

    python make.py          # numpy 2, safetensors 0.6 or newer; see VERSIONS.txt for those used

Writes `maps.safetensors` (one map of each kind, by the documented layout) and `rows.safetensors` (rows `x`, and for
every map what becomes of them at strengths 1 and -0.5).
"""

import json
import re
from pathlib import Path

import numpy as np
import safetensors
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


def transport(parts, x):
    """T(x) of the kinds that the guide's snippet leaves out."""
    if "matrix" in parts:
        return x @ parts["matrix"].T + parts["bias"]
    moved = parts["weight"] * x + parts["bias"]
    if "range.lo" in parts:
        moved = np.where((parts["range.lo"] < x) & (x < parts["range.hi"]), moved, x)
    return moved


def main():
    rng = np.random.default_rng(7)
    maps = {
        "low-rank": ("low-rank", low_rank(rng, R)),
        "shift": ("low-rank", low_rank(rng, 0)),
        "gated": ("low-rank", low_rank(rng, R) | gate(rng)),
        "shut": ("low-rank", low_rank(rng, R) | gate(rng) | {"gate.threshold": np.array(0.5)}),
        "diagonal": ("diagonal", {"weight": rng.normal(size=D), "bias": rng.normal(size=D)}),
        "ranged": (
            "diagonal",
            {
                "weight": rng.normal(size=D),
                "bias": rng.normal(size=D),
                "range.lo": np.full(D, -0.5),
                "range.hi": np.full(D, 0.5),
            },
        ),
        "dense": ("dense", {"matrix": rng.normal(size=(D, D)), "bias": rng.normal(size=D)}),
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
    for name, (kind, parts) in maps.items():
        for label, strength in [("1", 1.0), ("-0.5", -0.5)]:
            if kind == "low-rank":
                y = scope["apply"](path, name, x, strength)
            else:
                y = x + strength * (transport(parts, x) - x)
            rows[f"{name}.{label}"] = y
    save_file(rows, HERE / "rows.safetensors")
    (HERE / "VERSIONS.txt").write_text(f"numpy {np.__version__}\nsafetensors {safetensors.__version__}\n")


main()

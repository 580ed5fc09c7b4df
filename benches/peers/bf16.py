"""The peer of the bf16 kernel: PyTorch's own products, f32 and bf16.

    python bf16.py [threads]      (needs torch)

`y = x W^T` with `W` of `[n, k]` at the shapes of SmolLM2-135M, a 1.1B and an 8B model. PyTorch's bf16 rounds `x` and `y`
to bf16 too; the kernel of brenier-kernels keeps both in f32. The median of repetitions in turn, in microseconds. Weights
lie in as many copies as fill 256 MB (f32), so that none is found in a cache, as none is when a model decodes.
"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
torch.manual_seed(0)
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
for n, k in [(1536, 576), (576, 1536), (49152, 576), (5632, 2048), (14336, 4096)]:
    copies = max(1, 2**28 // (4 * n * k))
    wide = [torch.rand(n, k) - 0.5 for _ in range(copies)]
    narrow = [w.bfloat16() for w in wide]
    for m in [1, 4, 16, 128, 512]:
        if m * n * k > 2e10:
            continue
        x = torch.rand(m, k) - 0.5
        times = {"f32": [], "bf16": []}
        for turn in range(max(7, min(60, int(1e9 / (m * n * k))))):
            for name, at, w in [("f32", x, wide), ("bf16", x.bfloat16(), narrow)]:
                start = time.perf_counter()
                F.linear(at, w[turn % copies])
                times[name].append((time.perf_counter() - start) * 1e6)
        f32, bf16 = (statistics.median(times[name]) for name in ("f32", "bf16"))
        print(f"{n:6} x {k:5}, m = {m:4}: f32 {f32:10.1f}, bf16 {bf16:10.1f}, ratio {bf16 / f32:.2f}", flush=True)

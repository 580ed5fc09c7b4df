"""Writes a Hugging Face directory with random bf16 weights in the shape of a published model: no download.

    python make_shape.py DIR 1b|7b|8b      (needs numpy)

Weights are normal with deviation 0.02, norms are one. Shards of some 2 GB, written one tensor at a time.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

SHAPES = {  # hidden, intermediate, layers, heads, key heads, vocabulary
    "1b": (2048, 5632, 22, 32, 4, 32000),
    "7b": (4096, 11008, 32, 32, 32, 32000),
    "8b": (4096, 14336, 32, 32, 8, 128256),
}
path, name = Path(sys.argv[1]), sys.argv[2]
hidden, intermediate, layers, heads, kv_heads, vocab = SHAPES[name]
head_dim = hidden // heads
path.mkdir(parents=True, exist_ok=True)
tensors = [("model.embed_tokens.weight", (vocab, hidden)), ("lm_head.weight", (vocab, hidden)), ("model.norm.weight", (hidden,))]
for i in range(layers):
    at = f"model.layers.{i}."
    tensors += [
        (at + "input_layernorm.weight", (hidden,)),
        (at + "post_attention_layernorm.weight", (hidden,)),
        (at + "self_attn.q_proj.weight", (heads * head_dim, hidden)),
        (at + "self_attn.k_proj.weight", (kv_heads * head_dim, hidden)),
        (at + "self_attn.v_proj.weight", (kv_heads * head_dim, hidden)),
        (at + "self_attn.o_proj.weight", (hidden, heads * head_dim)),
        (at + "mlp.gate_proj.weight", (intermediate, hidden)),
        (at + "mlp.up_proj.weight", (intermediate, hidden)),
        (at + "mlp.down_proj.weight", (hidden, intermediate)),
    ]
shards, size = [[]], 0
for tensor in tensors:
    bytes_ = 2 * int(np.prod(tensor[1]))
    if size + bytes_ > 2 << 30:
        shards.append([])
        size = 0
    shards[-1].append(tensor)
    size += bytes_
rng = np.random.default_rng(0)
# A block of noise, cut at random places: values are random enough, and made in seconds.
noise = (rng.standard_normal(1 << 24, dtype=np.float32) * 0.02).view(np.uint32)
noise = ((noise + 0x8000) >> 16).astype(np.uint16)
index, total = {}, 0
for number, shard in enumerate(shards):
    file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor, shape in shard:
        end = offset + 2 * int(np.prod(shape))
        header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        index[tensor], offset = file, end
    total += offset
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path / file, "wb") as out:
        out.write(struct.pack("<Q", len(head)) + head)
        for tensor, shape in shard:
            count = int(np.prod(shape))
            if len(shape) == 1:
                out.write(np.full(count, 0x3F80, np.uint16).tobytes())
                continue
            while count > 0:
                start = int(rng.integers(0, len(noise) // 2))
                piece = noise[start : start + min(count, len(noise) // 2)]
                out.write(piece.tobytes())
                count -= len(piece)
(path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}))
(path / "config.json").write_text(json.dumps({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": intermediate,
    "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
}, indent=2))
print(f"{path}: {total / 2**30:.2f} GiB in {len(shards)} files")

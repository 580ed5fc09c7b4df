"""Tiny random models of every family, and what transformers says about them in f32.

Run with torch, transformers, safetensors and numpy (versions in VERSIONS.txt):

    python tests/golden/models/make_goldens.py

Each directory holds a Hugging Face checkpoint (random weights, no tokenizer) and `expected.safetensors`:

- `ids` [rows, tokens], `lengths` [rows]: a batch padded on the left with id 0;
- `logits` [rows, tokens, vocab], `resid_post` [layers, rows, tokens, hidden] (before the final norm), and of layer 1
  `resid_pre`, `attn_out`, `resid_mid`, `mlp_out` [rows, tokens, hidden]; all zero at padding;
- `greedy` [rows, new]: what greedy decoding gives, -1 after the end of a row.
"""

import json
import pathlib
import shutil

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

HERE = pathlib.Path(__file__).parent
NEW_TOKENS = 16
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)

COMMON = dict(hidden_act="silu", attn_implementation="eager", bos_token_id=1, pad_token_id=None)

MODELS = {
    # Llama 2: key heads as many as query heads, old layout of config.json, f32 in two shards.
    "llama2": dict(
        config=LlamaConfig(
            vocab_size=211, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=64, rms_norm_eps=1e-5, eos_token_id=2, **COMMON),
        dtype=torch.float32, shards=2, lengths=[13, 7, 1, 10], eos=[2],
        config_json=dict(rope_theta=10000.0, rope_scaling=None, torch_dtype="float32"), drop=("rope_parameters", "dtype", "head_dim"),
    ),
    # Llama 3.1: grouped queries, llama3 scaling within reach of the test positions, head_dim not hidden / heads,
    # newer layout, bf16.
    "llama31": dict(
        config=LlamaConfig(
            vocab_size=192, hidden_size=64, intermediate_size=112, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, head_dim=24, max_position_embeddings=256, rms_norm_eps=1e-5, eos_token_id=[2, 9],
            rope_parameters=dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0,
                                 high_freq_factor=4.0, original_max_position_embeddings=32), **COMMON),
        dtype=torch.bfloat16, shards=1, lengths=[36, 3], eos=[2, 9],
        config_json={}, drop=(),
    ),
    # Qwen 2.5: biases on q, k and v, tied output matrix, f16; eos in generation_config.json only.
    "qwen25": dict(
        config=Qwen2Config(
            vocab_size=300, hidden_size=32, intermediate_size=80, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-6, eos_token_id=None,
            tie_word_embeddings=True, use_sliding_window=False, **COMMON),
        dtype=torch.float16, shards=1, lengths=[5, 18, 11], eos=[4],
        config_json=dict(rope_theta=10000.0, torch_dtype="float16"), drop=("rope_parameters", "dtype"),
    ),
}


def write_checkpoint(name, spec, out):
    """Random weights, larger than usual so that logits differ clearly; rounded to the stored dtype."""
    torch.manual_seed(sum(map(ord, name)))
    model = AutoModelForCausalLM.from_config(spec["config"])
    for key, weight in model.named_parameters():
        if "norm" in key:
            weight.copy_(1 + 0.3 * torch.randn_like(weight))
        elif key.endswith("bias"):
            weight.copy_(0.5 * torch.randn_like(weight))
        else:
            weight.copy_(torch.randn_like(weight) * (0.8 if "embed" in key else 1.6 / weight.shape[1] ** 0.5))
    model = model.to(spec["dtype"])
    model.save_pretrained(out)
    weights = load_file(out / "model.safetensors")
    if spec["shards"] > 1:
        (out / "model.safetensors").unlink()
        keys, weight_map = sorted(weights), {}
        for shard in range(spec["shards"]):
            file = f"model-{shard + 1:05}-of-{spec['shards']:05}.safetensors"
            part = {key: weights[key] for key in keys[shard :: spec["shards"]]}
            save_file(part, out / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(part, file)
        size = sum(t.numel() * t.element_size() for t in weights.values())
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    config = json.loads((out / "config.json").read_text()) | spec["config_json"]
    for key in spec["drop"]:
        config.pop(key, None)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    eos = spec["eos"] if len(spec["eos"]) > 1 else spec["eos"][0]
    (out / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": eos}) + "\n")


def hooked(model):
    """All sites of all layers, caught in the forward pass as TransformerLens names them."""
    seen = {site: [] for site in ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"]}
    first = lambda x: x[0] if isinstance(x, tuple) else x
    for layer in model.model.layers:
        layer.register_forward_pre_hook(lambda _, args, kwargs: seen["resid_pre"].append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True)
        layer.self_attn.register_forward_hook(lambda _, i, o: seen["attn_out"].append(first(o)))
        layer.post_attention_layernorm.register_forward_pre_hook(lambda _, i: seen["resid_mid"].append(i[0]))
        layer.mlp.register_forward_hook(lambda _, i, o: seen["mlp_out"].append(o))
        layer.register_forward_hook(lambda _, i, o: seen["resid_post"].append(first(o)))
    return seen


def expect(spec, out):
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()
    lengths, vocab = spec["lengths"], spec["config"].vocab_size
    rng = np.random.default_rng(20240607)
    width = max(lengths)
    ids = np.zeros((len(lengths), width), dtype=np.int64)
    for row, length in enumerate(lengths):
        ids[row, width - length :] = rng.integers(10, vocab, length)
    ids = torch.from_numpy(ids)
    mask = torch.tensor([[0] * (width - n) + [1] * n for n in lengths])
    positions = (mask.cumsum(1) - 1).clamp(min=0)

    greedy = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=spec["eos"],
        pad_token_id=0)[:, width:]
    padded = torch.full((len(lengths), NEW_TOKENS), -1, dtype=torch.int64)
    for row, new in enumerate(greedy):
        for step, token in enumerate(new):
            if token in spec["eos"]:
                break
            padded[row, step] = token

    seen = hooked(model)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    real = mask[..., None].float()
    expected = {"ids": ids, "lengths": torch.tensor(lengths), "greedy": padded, "logits": logits * real}
    for site, layers in seen.items():
        assert len(layers) == spec["config"].num_hidden_layers
        expected[site] = (torch.stack(layers) if site == "resid_post" else layers[1]) * real
    # A gap between the two best logits that no rounding closes: greedy tokens are comparable.
    top = logits.topk(2, dim=-1).values
    print(out.name, "smallest lead of the best logit:", float((top[..., 0] - top[..., 1])[mask.bool()].min()),
          "greedy:", [int((row >= 0).sum()) for row in padded])
    save_file({key: value.contiguous() for key, value in expected.items()}, out / "expected.safetensors")


for name, spec in MODELS.items():
    out = HERE / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    write_checkpoint(name, spec, out)
    expect(spec, out)
(HERE / "VERSIONS.txt").write_text(
    f"torch {torch.__version__}\ntransformers {transformers.__version__}\nnumpy {np.__version__}\n")

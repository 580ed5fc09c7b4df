"""Tiny random models of every family, and what transformers says about them in f32.

Run with torch, transformers, safetensors and numpy (versions in VERSIONS.txt), for all models or those named:

    python tests/golden/models/make_goldens.py [NAME ...]

Each directory holds a Hugging Face checkpoint (random weights, no tokenizer) and `expected.safetensors`:

- `ids` [rows, tokens], `lengths` [rows]: a batch padded on the left with id 0;
- `logits` [rows, tokens, vocab], `resid_post` [layers, rows, tokens, hidden] (before the final norm), and of layer 1
  `resid_pre`, `attn_out`, `resid_mid`, `mlp_out` [rows, tokens, hidden]; all zero at padding. `attn_out` and `mlp_out`
  are what is added to the stream, after the norm behind attention or MLP where a family has one;
- `greedy` [rows, new]: what greedy decoding gives, -1 after the end of a row.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, LlamaConfig, MistralConfig, Olmo2Config, Phi3Config,
    Qwen2Config, Qwen3Config)

HERE = pathlib.Path(__file__).parent
NEW_TOKENS = 16
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)

COMMON = dict(hidden_act="silu", attn_implementation="eager", bos_token_id=1, pad_token_id=None)
GEMMA = dict(attn_implementation="eager", bos_token_id=1, pad_token_id=0)
TINY = dict(
    vocab_size=64, hidden_size=32, intermediate_size=40, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5)
# Deviations of weights: of the embedding, and of matrices by the square root of their width.
LARGE = dict(embed=0.8, matrix=1.6)
GENTLE = dict(embed=0.8, matrix=0.9)

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
    # Mistral: a window in every layer, older layout, f32 in two shards.
    "mistral": dict(
        config=MistralConfig(
            **(TINY | dict(num_hidden_layers=3)), head_dim=10, sliding_window=7, eos_token_id=2, **COMMON),
        dtype=torch.float32, shards=2, lengths=[33, 6, 1, 19], eos=[2], scale=GENTLE,
        config_json=dict(rope_theta=10000.0, torch_dtype="float32"), drop=("rope_parameters", "dtype"),
    ),
    # Qwen 2 with its window switched on from a layer on, yarn.
    "qwen2-window": dict(
        config=Qwen2Config(
            **TINY, tie_word_embeddings=True, use_sliding_window=True, sliding_window=5, max_window_layers=2,
            eos_token_id=2, rope_parameters=dict(
                rope_type="yarn", rope_theta=1000.0, factor=4.0, original_max_position_embeddings=12), **COMMON),
        dtype=torch.float16, shards=1, lengths=[28, 9], eos=[2], scale=GENTLE,
        config_json={}, drop=("layer_types",),
    ),
    # Qwen 3: norms on queries and keys, head_dim on its own, newer layout, bf16.
    "qwen3": dict(
        config=Qwen3Config(
            **TINY, head_dim=16, eos_token_id=2, rope_parameters=dict(rope_type="default", rope_theta=10000.0),
            **COMMON),
        dtype=torch.bfloat16, shards=1, lengths=[24, 3, 11], eos=[2], scale=GENTLE, config_json={}, drop=(),
    ),
    # Gemma 2: windows in every other layer, caps that bite, bf16 in two shards, older layout without
    # tie_word_embeddings, as on the Hub.
    "gemma2": dict(
        config=Gemma2Config(
            **TINY, head_dim=12, sliding_window=6, query_pre_attn_scalar=9, attn_logit_softcapping=1.5,
            final_logit_softcapping=2.5, eos_token_id=2, **GEMMA),
        dtype=torch.bfloat16, shards=2, lengths=[29, 5, 14], eos=[2], scale=dict(embed=0.35, matrix=1.2),
        config_json=dict(rope_theta=10000.0, torch_dtype="bfloat16", hidden_act="gelu_pytorch_tanh"),
        drop=("rope_parameters", "dtype", "layer_types", "tie_word_embeddings", "use_bidirectional_attention"),
    ),
    # Gemma 3: five layers with a window and a rope of their own to one without, linear scaling there, f32.
    "gemma3": dict(
        config=Gemma3TextConfig(
            **(TINY | dict(num_hidden_layers=7, hidden_size=16, num_key_value_heads=1)), head_dim=8, sliding_window=6,
            query_pre_attn_scalar=11, eos_token_id=2, rope_parameters=dict(
                full_attention=dict(rope_type="linear", factor=4.0, rope_theta=5000.0),
                sliding_attention=dict(rope_type="default", rope_theta=50.0)), **GEMMA),
        dtype=torch.float32, shards=1, lengths=[29, 5, 14], eos=[2], scale=dict(embed=0.3, matrix=1.0),
        config_json={}, drop=(),
    ),
    # Phi 3: fused projections, a window, part of each head rotated, LongRoPE: a row of more than 16 tokens is read
    # with other factors than a shorter one, so every row by itself here. Older layout, as on the Hub.
    "phi3": dict(
        config=Phi3Config(
            **TINY, sliding_window=20, original_max_position_embeddings=16, partial_rotary_factor=0.75, eos_token_id=2,
            rope_parameters=dict(
                rope_type="longrope", rope_theta=100.0, short_factor=[1.0, 1.05, 1.2], long_factor=[1.0, 2.5, 6.0]),
            **(COMMON | dict(pad_token_id=0))),
        dtype=torch.bfloat16, shards=1, lengths=[30, 10, 16, 17, 3], eos=[2], scale=GENTLE, alone=True,
        config_json=dict(rope_theta=100.0, torch_dtype="bfloat16", partial_rotary_factor=0.75, rope_scaling=dict(
            type="longrope", short_factor=[1.0, 1.05, 1.2], long_factor=[1.0, 2.5, 6.0])),
        drop=("rope_parameters", "dtype"),
    ),
    # OLMo 2: norms behind attention and MLP only, and on whole projections of queries and keys, f32.
    "olmo2": dict(
        config=Olmo2Config(**TINY, eos_token_id=2, **COMMON),
        dtype=torch.float32, shards=1, lengths=[24, 3, 11], eos=[2], scale=GENTLE, config_json={}, drop=(),
    ),
}


def write_checkpoint(name, spec, out):
    """Random weights, larger than usual so that logits differ clearly; rounded to the stored dtype."""
    torch.manual_seed(sum(map(ord, name)))
    scale = spec.get("scale", LARGE)
    model = AutoModelForCausalLM.from_config(spec["config"])
    for key, weight in model.named_parameters():
        if "norm" in key:
            # Gemma adds 1, and its norms stand behind attention and MLP too: smaller, so that the stream stays so.
            weight.copy_((-0.5 if "Gemma" in type(model).__name__ else 1) + 0.3 * torch.randn_like(weight))
        elif key.endswith("bias"):
            weight.copy_(0.5 * torch.randn_like(weight))
        else:
            weight.copy_(torch.randn_like(weight) * (scale["embed"] if "embed" in key else scale["matrix"] / weight.shape[1] ** 0.5))
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
    def note(site):
        return lambda _, inputs, output: seen[site].append(first(output))

    for layer in model.model.layers:
        parts = dict(layer.named_children())
        layer.register_forward_pre_hook(lambda _, args, kwargs: seen["resid_pre"].append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True)
        # What is added to the stream comes out of the norm behind, where there is one.
        behind = "post_feedforward_layernorm" in parts
        parts["post_attention_layernorm" if behind else "self_attn"].register_forward_hook(note("attn_out"))
        before = parts.get("pre_feedforward_layernorm", parts["mlp" if behind else "post_attention_layernorm"])
        before.register_forward_pre_hook(lambda _, i: seen["resid_mid"].append(i[0]))
        parts["post_feedforward_layernorm" if behind else "mlp"].register_forward_hook(note("mlp_out"))
        layer.register_forward_hook(note("resid_post"))
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

    # All rows at once, or each by itself.
    batches = [(row, row + 1, width - n) for row, n in enumerate(lengths)] if spec.get("alone") else [(0, len(ids), 0)]
    padded = torch.full((len(lengths), NEW_TOKENS), -1, dtype=torch.int64)
    for begin, end, start in batches:
        rows = slice(begin, end)
        greedy = model.generate(
            input_ids=ids[rows, start:], attention_mask=mask[rows, start:], max_new_tokens=NEW_TOKENS, do_sample=False,
            eos_token_id=spec["eos"], pad_token_id=0)[:, width - start :]
        for row, new in enumerate(greedy):
            for step, token in enumerate(new):
                if token in spec["eos"]:
                    break
                padded[begin + row, step] = token

    seen = hooked(model)
    found = {}
    for begin, end, start in batches:
        rows = slice(begin, end)
        for layers in seen.values():
            layers.clear()
        logits = model(
            input_ids=ids[rows, start:], attention_mask=mask[rows, start:], position_ids=positions[rows, start:],
            use_cache=False).logits
        here = {"logits": logits}
        for site, layers in seen.items():
            assert len(layers) == spec["config"].num_hidden_layers
            here[site] = torch.stack(layers) if site == "resid_post" else layers[1]
        for name, value in here.items():
            tokens = value.dim() - 2
            shape = [*value.shape]
            shape[tokens - 1], shape[tokens] = len(lengths), width
            found.setdefault(name, torch.zeros(shape))[..., rows, start:, :] = value
    logits, real = found["logits"], mask[..., None].float()
    expected = {"ids": ids, "lengths": torch.tensor(lengths), "greedy": padded}
    expected |= {name: value * real for name, value in found.items()}
    print(out.name, "largest activation:", float(max(value.abs().max() for value in found.values())))
    # A gap between the two best logits that no rounding closes: greedy tokens are comparable.
    top = logits.topk(2, dim=-1).values
    print(out.name, "smallest lead of the best logit:", float((top[..., 0] - top[..., 1])[mask.bool()].min()),
          "greedy:", [int((row >= 0).sum()) for row in padded])
    save_file({key: value.contiguous() for key, value in expected.items()}, out / "expected.safetensors")


for name, spec in MODELS.items():
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    out = HERE / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    write_checkpoint(name, spec, out)
    expect(spec, out)
(HERE / "VERSIONS.txt").write_text(
    f"torch {torch.__version__}\ntransformers {transformers.__version__}\nnumpy {np.__version__}\n")

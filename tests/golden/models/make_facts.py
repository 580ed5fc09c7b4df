"""A tiny random Llama whose files are edited in many ways, and what transformers makes of each edit in f32.

    python tests/golden/models/make_facts.py

`facts/` holds the checkpoint (f32, no tokenizer) and `cases.json`. A case edits a copy of the directory and gives what
transformers then says:

- `config`, `remove`: keys of config.json to set and to remove; `generation`: the content of generation_config.json;
- `tensors`: `["rename", from, to]`, `["drop", name]`, `["copy", from, to]`, `["fill", name, width]` (ones), in order;
- `logits`: those of the last token of `prompt`; `greedy`: for each of `prompts` what `generate(do_sample=False)` adds,
  the token that ends a text left out.

`as` replaces `config` for transformers, where it has no way to read what the case says.
"""

import json
import pathlib
import shutil
import tempfile
import warnings

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

HERE = pathlib.Path(__file__).parent / "facts"
PROMPT = [5, 9, 2, 40, 17, 33]
PROMPTS = [[7, 30, 8, 12, 7, 30], [11]]
NEW_TOKENS = 10
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)
transformers.logging.set_verbosity_error()
warnings.filterwarnings("ignore")

CONFIG = LlamaConfig(
    vocab_size=48, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=3,
    rope_parameters=dict(rope_type="default", rope_theta=50.0), attn_implementation="eager")
LLAMA3 = dict(rope_type="llama3", rope_theta=50.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", rope_theta=50.0, factor=4.0, original_max_position_embeddings=16)
LONGROPE = dict(rope_type="longrope", rope_theta=50.0, short_factor=[1.0, 1.5], long_factor=[2.0, 5.0])
NAMES = ["input_layernorm.weight", "mlp.down_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight",
         "post_attention_layernorm.weight", "self_attn.k_proj.weight", "self_attn.o_proj.weight",
         "self_attn.q_proj.weight", "self_attn.v_proj.weight"]
LAYER_1 = [f"layers.1.{name}" for name in NAMES]
BARE = ["embed_tokens.weight", "norm.weight", *(f"layers.{layer}.{name}" for layer in range(2) for name in NAMES)]
FLAT = ["rope_parameters"]
# Tokens that come early, so that ends have to be put off.
EOS = [14, 25, 46, 2, 5]


def without_prefix(names):
    return [["rename", f"model.{name}", name] for name in names]


LOADING = {
    "as it is": {},
    # Rotary settings.
    "older rope": dict(remove=FLAT, config=dict(rope_theta=50.0, rope_scaling=None)),
    "older rope, linear": dict(remove=FLAT, config=dict(rope_theta=30.0, rope_scaling=dict(type="linear", factor=2.0))),
    "no rope at all": dict(remove=FLAT),
    "rope_scaling replaces rope_parameters": dict(config=dict(rope_scaling=dict(rope_type="linear", factor=2.0))),
    "an empty rope_scaling replaces nothing": dict(config=dict(rope_scaling={}, rope_theta=7.0)),
    "the inner rope_theta wins": dict(config=dict(rope_theta=7.0)),
    "the outer rope_theta serves": dict(config=dict(rope_theta=7.0, rope_parameters=dict(rope_type="linear", factor=3.0))),
    "rope_type wins over type": dict(
        config=dict(rope_parameters=dict(rope_type="default", type="linear", rope_theta=50.0))),
    "llama3": dict(config=dict(rope_parameters=LLAMA3)),
    "the outer original context wins": dict(config=dict(rope_parameters=LLAMA3, original_max_position_embeddings=32)),
    "the context serves as the original one": dict(config=dict(
        rope_parameters={k: v for k, v in LLAMA3.items() if k != "original_max_position_embeddings"},
        max_position_embeddings=16)),
    "dynamic": dict(config=dict(rope_parameters=dict(rope_type="dynamic", rope_theta=50.0, factor=4.0))),
    "dynamic, beyond the context": dict(config=dict(
        rope_parameters=dict(rope_type="dynamic", rope_theta=50.0, factor=4.0), max_position_embeddings=4)),
    "yarn": dict(config=dict(rope_parameters=YARN)),
    "yarn, every setting": dict(config=dict(rope_parameters=YARN | dict(
        attention_factor=0.8, beta_fast=2.0, beta_slow=0.25, truncate=False))),
    "yarn, factors of scores": dict(config=dict(rope_parameters=YARN | dict(mscale=2.0, mscale_all_dim=0.5))),
    "longrope, a short row": dict(config=dict(rope_parameters=LONGROPE | dict(original_max_position_embeddings=6))),
    "longrope, a long row": dict(config=dict(rope_parameters=LONGROPE | dict(original_max_position_embeddings=5))),
    "longrope, its own factors": dict(config=dict(
        rope_parameters=LONGROPE | dict(original_max_position_embeddings=4, factor=3.0))),
    "longrope, attention_factor": dict(config=dict(
        rope_parameters=LONGROPE | dict(original_max_position_embeddings=4, attention_factor=1.5))),
    "a table for each type of layer": dict(
        config=dict(rope_parameters=dict(full_attention=LLAMA3)), **{"as": dict(rope_parameters=LLAMA3)}),
    # Names and tables.
    "no prefix": dict(tensors=without_prefix(BARE), config=dict(architectures=["LlamaModel"])),
    "a prefix here and there": dict(tensors=without_prefix(LAYER_1)),
    "a prefix too many": dict(tensors=[["rename", "lm_head.weight", "model.lm_head.weight"]]),
    "tied": dict(config=dict(tie_word_embeddings=True), tensors=[["drop", "lm_head.weight"]]),
    "tied with an equal head": dict(
        config=dict(tie_word_embeddings=True), tensors=[["copy", "model.embed_tokens.weight", "lm_head.weight"]]),
    "tied with another head": dict(config=dict(tie_word_embeddings=True)),
    "tied with nothing but the head": dict(
        config=dict(tie_word_embeddings=True), tensors=[["drop", "model.embed_tokens.weight"]]),
    "tied without prefix": dict(
        config=dict(tie_word_embeddings=True), tensors=[["drop", "lm_head.weight"], *without_prefix(BARE)]),
    "rotary buffers": dict(tensors=[["fill", "model.layers.0.self_attn.rotary_emb.inv_freq", 2]]),
    # Settings that change nothing.
    "other words": dict(config=dict(hidden_act="swish", layer_types=["full_attention", "attention"])),
    "a window as wide as the context": dict(config=dict(sliding_window=64)),
    "bookkeeping": dict(config=dict(
        attention_dropout=0.1, pretraining_tp=2, is_decoder=True, chunk_size_feed_forward=3, use_cache=False,
        logit_scale=1.0, rope_interleaved=False, num_labels=2, torch_dtype="float32", is_causal=True)),
}

GENERATION = {
    "nothing": dict(eos_token_id=3),
    "sampling alone": dict(do_sample=True, temperature=0.2, top_k=3, top_p=0.5, min_p=0.1, typical_p=0.4),
    "repetition_penalty": dict(repetition_penalty=1.7),
    "encoder_repetition_penalty": dict(encoder_repetition_penalty=1.9),
    "no_repeat_ngram_size": dict(no_repeat_ngram_size=2),
    "no_repeat_ngram_size 1": dict(no_repeat_ngram_size=1),
    "encoder_no_repeat_ngram_size": dict(encoder_no_repeat_ngram_size=2, encoder_repetition_penalty=1.9),
    "bad_words_ids": dict(bad_words_ids=[[25], [14, 46], [3]], eos_token_id=3),
    "bad_words_ids, sequences": dict(bad_words_ids=[[44, 23], [11, 5], [8, 12, 7, 30, 25], [1, 7, 30, 8, 12, 7, 30, 25]]),
    "bad_words_ids, the end": dict(bad_words_ids=[[25], [8]], eos_token_id=25),
    "both penalties": dict(repetition_penalty=2.5, encoder_repetition_penalty=1.9),
    "sequence_bias": dict(sequence_bias=[[[25], -8.0], [[8, 26], -6.5], [[4], 2.5]]),
    "suppress_tokens": dict(suppress_tokens=[-1, 25, 14, 46]),
    "begin_suppress_tokens": dict(begin_suppress_tokens=[25, 14, 46]),
    "forced_bos_token_id": dict(forced_bos_token_id=21, begin_suppress_tokens=[21, 25]),
    "forced_eos_token_id": dict(forced_eos_token_id=3, eos_token_id=3),
    "forced_eos_token_id, several": dict(forced_eos_token_id=[44, 19], eos_token_id=3),
    "min_length": dict(min_length=9, eos_token_id=EOS),
    "min_new_tokens": dict(min_new_tokens=4, eos_token_id=EOS),
    "min_new_tokens over min_length": dict(min_new_tokens=1, min_length=9, eos_token_id=EOS),
    "exponential_decay_length_penalty": dict(exponential_decay_length_penalty=[2, 1.9], eos_token_id=3),
    "all together": dict(
        repetition_penalty=1.3, no_repeat_ngram_size=3, bad_words_ids=[[7]], suppress_tokens=[25],
        min_new_tokens=3, sequence_bias=[[[8], 1.5]], eos_token_id=[3, 14]),
}


def random_model():
    torch.manual_seed(20250)
    model = AutoModelForCausalLM.from_config(CONFIG)
    for key, weight in model.named_parameters():
        if "norm" in key:
            weight.copy_(1 + 0.3 * torch.randn_like(weight))
        else:
            weight.copy_(torch.randn_like(weight) * (0.8 if "embed" in key else 1.6 / weight.shape[1] ** 0.5))
    return model


def edit(case, out):
    shutil.copytree(HERE, out)
    config = json.loads((out / "config.json").read_text()) | case.get("as", case.get("config", {}))
    for key in case.get("remove", []):
        config.pop(key)
    (out / "config.json").write_text(json.dumps(config))
    if "generation" in case:
        (out / "generation_config.json").write_text(json.dumps(case["generation"]))
    weights = load_file(out / "model.safetensors")
    for op, name, *rest in case.get("tensors", []):
        if op == "fill":
            weights[name] = torch.ones(*rest)
        elif op == "copy":
            weights[rest[0]] = weights[name].clone()
        elif op == "drop":
            del weights[name]
        else:
            weights[rest[0]] = weights.pop(name)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def load(case):
    with tempfile.TemporaryDirectory() as dir:
        out = pathlib.Path(dir) / "model"
        edit(case, out)
        return AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()


def greedy(model):
    eos = model.generation_config.eos_token_id
    eos = [] if eos is None else eos if isinstance(eos, list) else [eos]
    rows = []
    for prompt in PROMPTS:
        new = model.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
        new = new[0, len(prompt):].tolist()
        rows.append(new[:-1] if new[-1] in eos else new)
    return rows


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    random_model().save_pretrained(HERE)
    (HERE / "generation_config.json").unlink()
    loading, generation = [], []
    for name, case in LOADING.items():
        logits = load(case)(input_ids=torch.tensor([PROMPT])).logits[0, -1]
        top = logits.topk(2).values
        print(f"{name:45} lead {float(top[0] - top[1]):.3f}")
        loading.append(dict(name=name, **case, logits=[round(x, 6) for x in logits.tolist()]))
    for name, rules in GENERATION.items():
        rows = greedy(load(dict(generation=rules)))
        print(f"{name:45} {rows}")
        generation.append(dict(name=name, generation=rules, greedy=rows))
    # Without generation_config.json, config.json counts.
    rows = greedy(load(dict(config=dict(repetition_penalty=1.7))))
    generation.append(dict(name="in config.json", config=dict(repetition_penalty=1.7), greedy=rows))
    print(f"{'in config.json':45} {rows}")
    versions = dict(torch=torch.__version__, transformers=transformers.__version__)
    out = dict(versions=versions, prompt=PROMPT, prompts=PROMPTS, new_tokens=NEW_TOKENS, loading=loading, generation=generation)
    text = json.dumps(out, indent=1)
    (HERE / "cases.json").write_text(text + "\n")


main()

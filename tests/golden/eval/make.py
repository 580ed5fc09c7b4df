"""Perplexity and KL of the tiny models beside this directory, in float64, by transformers.

Run with torch and transformers (versions in VERSIONS.txt), after tests/golden/models/make_goldens.py:

    python tests/golden/eval/make.py

`expected.json` holds for each model: `text` (rows of token ids: a bos is put before each and the first eos after it),
`shift` (a vector added after block 1 at every token), `prompts` with forced `continuations`, and, untouched and
shifted, `nll` (sum over all tokens but the first of each row) and `tokens`; `kl_prompt` and `kl_continuation` are
KL(untouched || shifted), the latter the mean over the last prompt token and all forced tokens.
"""

import json
import pathlib

import torch
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
EOS = {"llama2": 2, "llama31": 2, "qwen25": 4}
torch.set_grad_enabled(False)


def run(model, ids, shift=None):
    handle = None
    if shift is not None:
        def add(_, __, out):
            return (out[0] + shift,) + tuple(out[1:]) if isinstance(out, tuple) else out + shift
        handle = model.model.layers[1].register_forward_hook(add)
    logits = model(torch.tensor([ids])).logits[0]
    if handle:
        handle.remove()
    return torch.log_softmax(logits, -1)


def case(name):
    model = AutoModelForCausalLM.from_pretrained(HERE.parent / "models" / name, dtype=torch.float64, attn_implementation="eager").eval()
    vocab, hidden = model.config.vocab_size, model.config.hidden_size
    random = torch.Generator().manual_seed(7)
    draw = lambda n: torch.randint(10, vocab, (n,), generator=random).tolist()
    text = [draw(n) for n in (9, 1, 17, 5)]
    shift = torch.randn(hidden, generator=random, dtype=torch.float64) * 0.5
    shift = torch.round(shift * 256) / 256  # exact in f32
    prompts = [draw(n) for n in (6, 3, 8)]
    continuations = [draw(4), [], draw(1)]
    found = dict(text=text, shift=shift.tolist(), prompts=prompts, continuations=continuations)
    for label, by in (("untouched", None), ("shifted", shift)):
        nll, tokens = 0.0, 0
        for line in text:
            ids = [1] + line + [EOS[name]]
            logs = run(model, ids, by)
            nll -= sum(logs[i, ids[i + 1]].item() for i in range(len(ids) - 1))
            tokens += len(ids) - 1
        found[label] = dict(nll=nll, tokens=tokens)
    found["kl_prompt"], found["kl_continuation"] = [], []
    for prompt, forced in zip(prompts, continuations):
        p, q = run(model, prompt + forced), run(model, prompt + forced, shift)
        kl = (p.exp() * (p - q)).sum(-1)[len(prompt) - 1:]
        found["kl_prompt"].append(kl[0].item())
        found["kl_continuation"].append(kl.mean().item())
    return found


if __name__ == "__main__":
    import transformers
    out = {name: case(name) for name in EOS}
    (HERE / "expected.json").write_text(json.dumps(out) + "\n")
    (HERE / "VERSIONS.txt").write_text(f"torch {torch.__version__}\ntransformers {transformers.__version__}\n")

"""Capture and generation beside transformers, in one run: benches/record/models.md.

    python models.py BINARY MODEL [--prompts FILE.jsonl ..] [--dtypes f32,bf16] [--tasks capture,generate,decode]
                     [--rounds 3] [--threads 2]

BINARY is the example `models` of this folder's package, built with --release. Needs torch and transformers. A round runs
each task with ours and with theirs, one right after the other; medians and their ratio are printed (above 1: ours is
faster). A model without a tokenizer gets prompts of random ids behind a common start of 30.
"""

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW = 64
parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("model")
parser.add_argument("--prompts", nargs="*", default=[])
parser.add_argument("--count", type=int, default=300)
parser.add_argument("--dtypes", default="f32,bf16")
parser.add_argument("--tasks", default="capture,generate,decode,edited")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
random.seed(0)


def prompts():
    if not args.prompts:
        start = [random.randrange(10, 250) for _ in range(30)]
        return [start + [random.randrange(10, 250) for _ in range(random.randrange(5, 25))] for _ in range(args.count)]
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    texts = [json.loads(line)["prompt"] for path in args.prompts for line in open(path)]
    texts = (texts * args.count)[: args.count]
    chat = lambda text: tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
    )
    return [list(chat(text)) for text in texts]


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


@torch.inference_mode()
def theirs(model, task, rows):
    if task == "capture":
        # Sorted by length, in batches: what a careful user writes.
        for chunk in batches(sorted(rows, key=len), 32):
            states = model.model(**padded(chunk), output_hidden_states=True, use_cache=False).hidden_states
            [state[:, -1].float().clone() for state in states[1:]]
        return
    rows = rows[:64] if task == "generate" else rows[:1]
    for chunk in batches(sorted(rows, key=len), 32):
        out = model.generate(
            **padded(chunk), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=None
        )
        assert out.shape[1] - max(map(len, chunk)) == NEW


def batches(rows, size):
    return [rows[i : i + size] for i in range(0, len(rows), size)]


rows = prompts()
print(f"torch {torch.__version__}, {args.threads} threads, {len(rows)} prompts of {min(map(len, rows))} to {max(map(len, rows))} tokens")
print("| task | dtype | ours, s | transformers, s | ratio | our peak, MiB |\n|---|---|---|---|---|---|")
for dtype in args.dtypes.split(","):
    torch_dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch_dtype, attn_implementation="sdpa").eval()
    theirs(model, "decode", rows)
    for task in args.tasks.split(","):
        used = rows if task == "capture" else rows[:64] if task == "generate" else rows[:1]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(used, file)
            file.flush()
            found = {"ours": [], "theirs": []}
            for _ in range(args.rounds):
                command = [args.binary, task, args.model, file.name, dtype]
                seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True, env={"RAYON_NUM_THREADS": str(args.threads)}).stdout.split()
                found["ours"].append(float(seconds))
                start = time.perf_counter()
                theirs(model, "decode" if task == "edited" else task, used)
                found["theirs"].append(time.perf_counter() - start)
        ours, other = (statistics.median(found[side]) for side in ("ours", "theirs"))
        print(f"| {task} | {dtype} | {ours:.2f} | {other:.2f} | {other / ours:.2f} | {int(peak) >> 20} |", flush=True)

"""Tokens that stand beside tokenizer.json, and what Hugging Face transformers makes of them (declared.json).

    python make_declared.py

A case copies `tokenizer` and sets keys of tokenizer_config.json (`config`), writes other files (`files`), or sets keys
of tokenizer.json (`tokenizer_json`). What transformers then says: `ids` and `decoded` (without
special tokens) of each text, and `named`, the special tokens that a chat template sees.
"""

import json
import pathlib
import shutil
import tempfile

import tokenizers
import transformers
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "How high <|im_start|> is<|im_start|>it<|im_end|>?",
    "  <img>x <img> [X]<s1>the tower<|turn|> \n<|im_end|> ",
]


def token(content, **properties):
    plain = dict(content=content, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
    return plain | properties


# The next ids of both tokenizers.
LEVEL, FALLBACK = 395, 420
CASES = {
    "none": {},
    "declared alone": dict(config=dict(added_tokens_decoder={
        str(LEVEL): token("<|im_start|>"), str(LEVEL + 1): token("<|im_end|>")})),
    "declared in another order": dict(config=dict(added_tokens_decoder={
        str(LEVEL + 1): token("<|im_end|>"), str(LEVEL): token("<|im_start|>")})),
    "strip": dict(config=dict(added_tokens_decoder={
        str(LEVEL): token("<|im_start|>", lstrip=True), str(LEVEL + 1): token("<|im_end|>", rstrip=True)})),
    "single word": dict(config=dict(added_tokens_decoder={str(LEVEL): token("<img>", single_word=True)})),
    "normalized": dict(config=dict(added_tokens_decoder={
        str(LEVEL): token("<|im_start|>", normalized=True, special=False)})),
    "not special": dict(config=dict(added_tokens_decoder={str(LEVEL): token("<|im_start|>", special=False)})),
    "special by name": dict(config=dict(
        added_tokens_decoder={str(LEVEL): token("<|im_start|>", special=False)}, pad_token="<|im_start|>")),
    "other properties than in tokenizer.json": dict(config=dict(
        added_tokens_decoder={"2": token("<|turn|>", rstrip=True)})),
    "in the vocabulary already": dict(config=dict(added_tokens_decoder={"271": token("igh")})),
    "additional_special_tokens": dict(config=dict(additional_special_tokens=["<|im_start|>", "<s1>"])),
    "extra_special_tokens before additional ones": dict(config=dict(
        extra_special_tokens=["<img>"], additional_special_tokens=["<s1>"])),
    "extra_special_tokens by name": dict(config=dict(extra_special_tokens={"image_token": "<img>"})),
    "tokens as they were saved": dict(config=dict(extra_special_tokens=[
        dict(token("<|im_start|>", lstrip=True), __type="AddedToken"),
        dict(token("<img>", special=False), __type="AddedToken")])),
    "a name of its own": dict(config=dict(image_token="<img>", add_bos_token=True)),
    "names that no vocabulary has": dict(config=dict(pad_token="[X]", bos_token="<s1>", eos_token="<|end|>")),
    "a saved name": dict(config=dict(bos_token=dict(content="<|im_start|>", lstrip=True, __type="AddedToken"))),
    "special_tokens_map.json": dict(files={"special_tokens_map.json": {
        "additional_special_tokens": ["<|im_start|>"], "pad_token": "<s1>",
        "eos_token": dict(content="[X]", lstrip=True)}}),
    "special_tokens_map.json beside declared tokens": dict(
        config=dict(added_tokens_decoder={}),
        files={"special_tokens_map.json": {"additional_special_tokens": ["<|im_start|>"], "pad_token": "<s1>"}}),
    "special_tokens_map.json beside additional tokens": dict(
        config=dict(additional_special_tokens=["<img>"]),
        files={"special_tokens_map.json": {"additional_special_tokens": ["<|im_start|>"]}}),
    "added_tokens.json": dict(
        config=dict(pad_token="<s1>"),
        files={"added_tokens.json": {"<s1>": LEVEL + 1, "<|im_start|>": LEVEL}}),
    "added_tokens.json beside declared tokens": dict(
        config=dict(added_tokens_decoder={}), files={"added_tokens.json": {"<|im_start|>": LEVEL}}),
    "special by name in tokenizer.json": dict(
        config=dict(pad_token="<|turn|>"),
        tokenizer_json={"added_tokens": [
            dict(token("<|begin|>"), id=0), dict(token("<|end|>"), id=1), dict(token("<|turn|>", special=False), id=2)]}),
    "special tokens as text": dict(config=dict(
        split_special_tokens=True,
        added_tokens_decoder={str(LEVEL): token("<|im_start|>"), str(LEVEL + 1): token("<img>", special=False)})),
    "beside a sentencepiece vocabulary": dict(tokenizer="byte-fallback", config=dict(added_tokens_decoder={
        "0": token("<unk>"), "1": token("<s>"), "2": token("</s>"), str(FALLBACK): token("<|im_start|>"),
        str(FALLBACK + 1): token("<|im_end|>", rstrip=True), str(FALLBACK + 2): token("<img>", normalized=True)})),
}


def main():
    cases = []
    for name, case in CASES.items():
        case = dict(tokenizer="byte-level") | case
        with tempfile.TemporaryDirectory() as dir:
            out = pathlib.Path(dir) / "tokenizer"
            shutil.copytree(HERE / case["tokenizer"], out)
            for file, keys in [("tokenizer_config.json", "config"), ("tokenizer.json", "tokenizer_json")]:
                content = json.loads((out / file).read_text(encoding="utf-8")) | case.get(keys, {})
                (out / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            for file, content in case.get("files", {}).items():
                (out / file).write_text(json.dumps(content))
            peer = PreTrainedTokenizerFast.from_pretrained(out)
            ids = [peer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
            decoded = [peer.decode(row, skip_special_tokens=True) for row in ids]
            print(f"{name:50}", [peer.convert_ids_to_tokens(i) for row in ids for i in row if i >= 395 or i < 3])
            cases.append(dict(name=name, **case, ids=ids, decoded=decoded, named=peer.special_tokens_map))
    versions = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    text = json.dumps({"versions": versions, "texts": TEXTS, "cases": cases}, ensure_ascii=False, indent=1)
    (HERE / "declared.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

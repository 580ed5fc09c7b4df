"""Two tiny tokenizers and what Hugging Face transformers makes of some texts with them (cases.json).

    python make.py

`byte-level` is built as those of Llama 3 and Qwen 2.5 are (byte-level BPE, bos added by a template), `byte-fallback`
as that of Llama 2 is (BPE over `▁` words, unknown characters as bytes). `settings` is the first with
`add_bos_token: false` in tokenizer_config.json, which tokenizer.json overrules, and with truncation and padding in
tokenizer.json, which a single text does not see.
"""

import json
import pathlib
import shutil

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
CORPUS = """The harbour of Zell opens at six and closes at nine.
The lighthouse keeper of Abach counts the boats: twelve in spring, forty in summer.
How high is the tower? The tower is 41 metres high, the old mill only 17.
Where does the baker's boat lie? It lies by the second pier, don't step on it.
"""
SPECIAL = ["<|begin|>", "<|end|>", "<|turn|>"]
TEXTS = [
    "How high is the tower?",
    "  two  spaces, a\ttab\nand a line  ",
    "",
    "<|begin|>The tower<|turn|> is high<|end|>",
    "<s>The tower</s> is high",
    "Straße, naïve, 東京, 🚢!",
    "don't WE'LL 1234567",
]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A <|begin|>:1 $B:1", special_tokens=[("<|begin|>", 0)]
    )
    return tokenizer, {"bos_token": "<|begin|>", "eos_token": "<|end|>"}


def byte_fallback():
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    # The bytes are ordinary tokens, only <unk>, <s> and </s> are special.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def write(name, tokenizer, config):
    out = HERE / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": True, **config}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def main():
    tokenizer, tokens = byte_level()
    write("byte-level", tokenizer, tokens)
    tokenizer.enable_truncation(max_length=3)
    tokenizer.enable_padding(length=8, pad_token="<|end|>", pad_id=1)
    write("settings", tokenizer, {**tokens, "add_bos_token": False})
    write("byte-fallback", *byte_fallback())
    cases = []
    for name in ["byte-level", "settings", "byte-fallback"]:
        peer = PreTrainedTokenizerFast.from_pretrained(HERE / name)
        for text in TEXTS:
            plain = peer(text, add_special_tokens=False)["input_ids"]
            cases.append({
                "tokenizer": name,
                "text": text,
                "raw": peer(text)["input_ids"],
                "plain": plain,
                "decoded": peer.decode(plain),
                "decoded_without_special": peer.decode(plain, skip_special_tokens=True),
            })
    versions = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    out = {"versions": versions, "cases": cases}
    (HERE / "cases.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Renders the templates of this directory with Hugging Face transformers into cases.json.

    python make.py

The templates are written in the style of published ones. `strftime_now` sees a fixed moment.
"""

import datetime
import json
import pathlib

import jinja2
import transformers
import transformers.utils.chat_template_utils as chat

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2024, 3, 5, 7, 8, 9)
LLAMA = {"bos_token": "<s>", "eos_token": "</s>"}
LLAMA3 = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
QWEN = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


ONE = [user("  How high is the tower?\n")]
WITH_SYSTEM = [system(" Answer in one word. "), user("Is the 'old' bridge <open> & \"lit\"?")]
TALK = [user("Hello."), assistant(" Good day. "), user("Where is the mill?")]
SYSTEM_TALK = [system("Be kind."), *TALK]
WEATHER = {
    "type": "function",
    "function": {
        "name": "tide_at",
        "description": "High tide in a town's harbour, <hours> & 'minutes' — été",
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"type": "string", "enum": ["Zell", "Abach"]},
                "days": {"type": "number", "default": 1.0, "maximum": 1e16},
            },
            "required": ["town"],
        },
    },
}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "tide_at", "arguments": {"town": "Zell", "note": "it's <soon>"}}}],
}
TOOL_TALK = [user("When is high tide?"), CALL, {"role": "tool", "name": "tide_at", "content": "at noon"}]
THOUGHT = [
    user("Count the boats."),
    assistant("<think>\nOne, two.\n</think>\n\nTwo."),
    user("And now?"),
    assistant("<think>\n\nStill two.\n</think>\n\nTwo."),
]

CASES = [
    ("llama-2", LLAMA, ONE, {}),
    ("llama-2", LLAMA, WITH_SYSTEM, {}),
    ("llama-2", LLAMA, SYSTEM_TALK, {}),
    ("llama-2", LLAMA, [user("a"), user("b")], {}),
    ("llama-3.1", LLAMA3, ONE, {}),
    ("llama-3.1", LLAMA3, WITH_SYSTEM, {}),
    ("llama-3.1", LLAMA3, SYSTEM_TALK, {"date_string": "26 Jul 2024"}),
    ("llama-3.1", LLAMA3, ONE, {"tools": [WEATHER]}),
    ("llama-3.1", LLAMA3, WITH_SYSTEM, {"tools": [WEATHER, WEATHER], "tools_in_user_message": False}),
    ("llama-3.1", LLAMA3, TOOL_TALK, {}),
    ("llama-3.1", LLAMA3, TOOL_TALK, {"builtin_tools": ["tide_at", "code_interpreter"]}),
    ("llama-3.1", LLAMA3, [system("alone")], {"tools": [WEATHER]}),
    ("qwen-2.5", QWEN, ONE, {}),
    ("qwen-2.5", QWEN, WITH_SYSTEM, {}),
    ("qwen-2.5", QWEN, SYSTEM_TALK, {}),
    ("qwen-2.5", QWEN, TOOL_TALK, {"tools": [WEATHER]}),
    ("thinking", QWEN, ONE, {}),
    ("thinking", QWEN, ONE, {"enable_thinking": False}),
    ("thinking", QWEN, THOUGHT, {}),
    ("no-system", LLAMA, ONE, {}),
    ("no-system", LLAMA, TALK, {}),
    ("no-system", LLAMA, WITH_SYSTEM, {}),
    ("blocks", LLAMA, SYSTEM_TALK, {}),
    ("blocks", LLAMA, [user("a"), {"role": "skip", "content": "b"}, assistant("c"), {"role": "stop", "content": ""}, user("d")], {}),
    ("python", LLAMA, ONE, {}),
]


def main():
    chat.datetime = FixedClock
    cases = []
    for template, tokens, messages, variables in CASES:
        source = (HERE / f"{template}.jinja").read_text(encoding="utf-8")
        for add_generation_prompt in (False, True):
            case = {
                "template": template,
                "tokens": tokens,
                "messages": messages,
                "variables": variables,
                "add_generation_prompt": add_generation_prompt,
            }
            try:
                rest = {k: v for k, v in variables.items() if k != "tools"}
                [text], _ = chat.render_jinja_template(
                    [messages],
                    tools=variables.get("tools"),
                    chat_template=source,
                    add_generation_prompt=add_generation_prompt,
                    **tokens,
                    **rest,
                )
                case["text"] = text
            except jinja2.exceptions.TemplateError as e:
                case["refused"] = str(e)
            cases.append(case)
    versions = {"transformers": transformers.__version__, "jinja2": jinja2.__version__}
    out = {"versions": versions, "now": NOW.isoformat(), "cases": cases}
    (HERE / "cases.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

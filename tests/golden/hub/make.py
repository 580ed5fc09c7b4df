"""What huggingface_hub makes of environment variables, and the cache that it fills.

Run with `python make.py` in this directory; needs huggingface_hub (version in VERSIONS.txt). `variables.json` has
sets of variables and the settings that the library takes from them. `layout.json` has every file and link of the
cache after each file of a small model was asked for, absent ones among them, at a branch and at a tag; the model is
served on 127.0.0.1 as the Hub serves it.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

COMMIT = "1" * 40
OTHER = "2" * 40
LARGE = 1000


def content(seed, length):
    return bytes((i * 7 + i // 251 + seed * 13) % 256 for i in range(length))


FILES = {
    "config.json": content(3, 400),
    "generation_config.json": content(4, 100),
    "tokenizer.json": content(5, 5000),
    "tokenizer_config.json": content(6, 900),
    "model.safetensors": content(7, 600_000),
}
ABSENT = ["special_tokens_map.json", "added_tokens.json", "chat_template.jinja"]
REVISIONS = {
    COMMIT: (COMMIT, FILES),
    "main": (COMMIT, FILES),
    "refs/pr/1": (OTHER, FILES | {"config.json": content(40, 410)}),
}

VARIABLES = [
    {},
    {"HF_HOME": "/c"},
    {"XDG_CACHE_HOME": "/d"},
    {"HF_HOME": "/c", "XDG_CACHE_HOME": "/d"},
    {"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"},
    {"HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"},
    {"HF_HOME": "~/hf"},
    {"HF_HOME": "$DISK/hf", "DISK": "/data"},
    {"HF_HUB_CACHE": "${DISK}s/$DISK$OTHER-x", "DISK": "/data"},
    {"XDG_CACHE_HOME": "~/$DISK", "DISK": "data"},
    {"HUGGINGFACE_HUB_CACHE": "~", "HF_TOKEN_PATH": "~/$DISK/t", "DISK": "data"},
    {"HF_HUB_OFFLINE": "1"},
    {"HF_HUB_OFFLINE": "yes"},
    {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"},
    {"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "On"},
    {"HF_HUB_OFFLINE": "2"},
    {"HF_ENDPOINT": "http://127.0.0.1:9/hf/"},
    {"HF_TOKEN": " hf_a\n", "HUGGING_FACE_HUB_TOKEN": "hf_b"},
    {"HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "hf_b"},
]
ASK = """
import json, huggingface_hub.constants as c
from huggingface_hub.utils._auth import _get_token_from_environment as token
print(json.dumps({"cache": c.HF_HUB_CACHE, "token_file": c.HF_TOKEN_PATH, "offline": c.HF_HUB_OFFLINE,
                  "endpoint": c.ENDPOINT, "token": token()}))
"""


class Hub(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.reply(False)

    def do_GET(self):
        self.reply(True)

    def reply(self, with_body):
        _, _, _, _, revision, file = self.path.split("/")
        commit, files = REVISIONS[revision.replace("%2F", "/")]
        data = files.get(file)
        if data is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            data, with_body = b"", False
        else:
            large = len(data) >= LARGE
            tag = hashlib.sha256(data) if large else hashlib.sha1(b"blob %d\0" % len(data) + data)
            self.send_response(200)
            self.send_header("ETag", f'"{tag.hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)


def variables():
    for given in VARIABLES:
        env = {"PATH": os.environ["PATH"], "HOME": "/home/u"} | given
        out = subprocess.run([sys.executable, "-c", ASK], env=env, check=True, capture_output=True).stdout
        yield {"variables": {"HOME": "/home/u"} | given} | json.loads(out)


def layout():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as cache:
        ask = (
            "import sys; from huggingface_hub import hf_hub_download as get\n"
            "from huggingface_hub.errors import EntryNotFoundError as Absent\n"
            "for revision in sys.argv[1].split(','):\n"
            "    for file in sys.argv[2].split(','):\n"
            "        try: get('org/tiny', file, revision=revision)\n"
            "        except Absent: pass\n"
        )
        env = {"PATH": os.environ["PATH"], "HOME": cache, "HF_HUB_CACHE": cache}
        env |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_TELEMETRY": "1"}
        files = ",".join([*FILES, *ABSENT])
        subprocess.run([sys.executable, "-c", ask, "main,refs/pr/1", files], env=env, check=True)
        found = {}
        for path in sorted(Path(cache).rglob("*")):
            name = path.relative_to(cache).as_posix()
            if not name.startswith(("models--", ".locks/")) or (path.is_dir() and not path.is_symlink()):
                continue
            if path.is_symlink():
                found[name] = "-> " + os.readlink(path)
            elif "/refs/" in name:
                found[name] = path.read_text()
            else:
                found[name] = f"{path.stat().st_size} bytes"
        return found


if __name__ == "__main__":
    Path("variables.json").write_text(json.dumps(list(variables()), indent=1) + "\n")
    Path("layout.json").write_text(json.dumps(layout(), indent=1) + "\n")
    Path("VERSIONS.txt").write_text(
        f"python {sys.version.split()[0]}\nhuggingface_hub {version('huggingface_hub')}\n"
    )

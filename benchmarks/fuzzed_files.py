"""Other fuzzed readers: templates, configs, models, and all files that the package stores."""

import hashlib
import io
import json
import pickle
import random
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from fuzzed import Evil, Reader

from lit_unlearn.callbacks.saved import UNFINISHED, check_checkpoint, find_saved, seal
from lit_unlearn.cli.config import merge_configs, read_config
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.evaluation.given_models import loading_of
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Outcome
from lit_unlearn.evaluation.record_files import METRICS, ROWS, read_evaluation
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.tiny import tiny_tokenizer
from lit_unlearn.rewriting.journal import Journal
from lit_unlearn.rewriting.journal import Reply as JournalReply
from lit_unlearn.teachers.cache.store import INDEX_FILE, Entry, Shards
from lit_unlearn.training.setup.settled import Settled, read_settled, write_settled
from lit_unlearn.training.setup.teacher_replies import Reply, ReplyLog
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.append_log import AppendLog
from lit_unlearn.utils.chat_template import PLAIN_TEMPLATE
from lit_unlearn.utils.digests import checked_text
from lit_unlearn.utils.ownership import MARKER, check_targets, write_text


def template_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of chat templates, by an encoder."""
    tokenizer = tiny_tokenizer()
    system = "{{ messages[0]['content'] }}{% set messages = messages[1:] %}"
    reach = "cycler.__init__.__globals__.os.mkdir('" + str(mark) + "')"
    seeds = [
        str(tokenizer.chat_template).encode(),
        PLAIN_TEMPLATE.encode(),
        (
            "{% if messages[0]['role'] == 'system' %}" + system + "{% endif %}{{ eos_token }}"
        ).encode(),
        ("{{ " + reach + " }}").encode(),
        ("{{ (''|attr('__class__')).__mro__[1].__subclasses__() }}{{ " + reach + " }}").encode(),
    ]
    example = Example("a/0", (Turn("user", "Who?"),), "Me.", "question_answer")

    def read(data: bytes, choose: random.Random) -> None:
        tokenizer.chat_template = data.decode("utf-8", "replace")
        encoder = Encoder(tokenizer, 512, "warn")
        encoder.encode(example, "Me.", prefill=choose.choice(("", "Sure")))

    return Reader("templates", seeds, read, endless=True)


def config_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of config files, which are also merged."""
    laughs = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in pairwise("abcdefghi")
    )
    seeds = [
        b"seed_everything: 0\ntrainer:\n  max_steps: 6\n  callbacks:\n    - class_path: X\n"
        b"      init_args: {n: 2, lr: 1e-5}\nmodel: {student: {path: random-tiny}}\n",
        b"data:\n  objectives:\n    forget: &f\n      rows: 2\n    retain:\n      <<: *f\n",
        b'{"trainer": {"logger": null}, "data": {"list+": [1, 2.5, "x", true, 2026-01-01]}}',
        laughs.encode(),
        b"a: &a\n  b: *a\n",
        f"a: !!python/object/apply:os.mkdir ['{mark}']\n".encode(),
    ]
    file, base = folder / "fuzz.yaml", {"trainer": {"callbacks": [1]}, "data": {"objectives": {}}}

    def read(data: bytes, choose: random.Random) -> None:
        file.write_bytes(data)
        values = read_config(file).values
        json.dumps(merge_configs(merge_configs(base, values), values), default=str)

    return Reader("configs", seeds, read)


def model_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of the small files of a model, which are read before its weights."""
    index = {"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}
    files = {
        "config.json": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "x": None},
        "model.safetensors.index.json": index,
        "adapter_config.json": {"base_model_name_or_path": "random-tiny", "r": 2},
        "tokenizer_config.json": {"unlearning_template": {"system": "S", "arguments": {}}},
    }
    texts = {name: json.dumps(content).encode() for name, content in files.items()}
    (folder / "model.safetensors").write_bytes(b"weights")

    def read(data: bytes, choose: random.Random) -> None:
        by_end = next((name for name, text in texts.items() if text[:6] == data[:6]), None)
        name = by_end or choose.choice([*texts])
        try:
            (folder / "config.json").write_bytes(texts["config.json"])
            (folder / name).write_bytes(data)
            find_model.cache_clear()
            find_model(str(folder))
            loading_of(str(folder))
        finally:
            (folder / name).unlink()

    return Reader("models", list(texts.values()), read)


def cache_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of teacher and trunk caches, with right and wrong digests."""
    place = folder / "cache"
    store = Shards(place)
    with store.locked():
        store.append(
            [Entry(bytes(16), 2, torch.ones(3, 4)), Entry(bytes([1] * 16), 0, torch.ones(1, 4))]
        )
    shard = next(place.glob("*.safetensors"))
    index = (place / INDEX_FILE).read_bytes()
    whole = shard.read_bytes()

    def read(data: bytes, choose: random.Random) -> None:
        is_index = data[:1] == b"{" and b"shards" in data[:60]
        (place / INDEX_FILE).write_bytes(data if is_index else index)
        shard.write_bytes(whole if is_index else data)
        if not is_index and choose.random() < 0.5:  # as in an attack: with the right digest
            digest = hashlib.sha256(data).hexdigest()
            made = json.dumps({"shards": {shard.name: digest}})
            (place / INDEX_FILE).write_text(made, "utf-8")
        opened = Shards(place, kind=choose.choice(("Teacher cache", "Trunk cache")))
        for key in opened.entries:
            opened.read(key)

    return Reader("caches", [index, whole, whole], read)


def log_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of stored outcomes, answers and replies, and of rewriting's journal."""
    outcome, reply = Outcome("p", {}, ("yes", "no")), Reply("Yes.", 0.5)
    logs: list[tuple[AppendLog[Any], Any]] = [
        (Store(folder / "store"), outcome),
        (Store(folder / "answers", shared=True), outcome),
        (ReplyLog(folder / "replies", shared=True), reply),
        (Journal(folder / "journal"), JournalReply("Yes.", 1.0, 3, 4, "id")),
    ]
    seeds = []
    for number, (log, value) in enumerate(logs):
        with log:
            log.append({f"{number}" * 64: value, "b" * 64: value})
        seeds.append(log.path.read_bytes())

    def read(data: bytes, choose: random.Random) -> None:
        number = next((n for n, seed in enumerate(seeds) if seed[:12] == data[:12]), None)
        log = logs[choose.randrange(4) if number is None else number][0]
        lines = data.split(b"\n")
        if choose.random() < 0.5:  # as in an attack: with the right checksums
            lines = [_signed(line) for line in lines]
        log.path.write_bytes(b"\n".join(lines))
        with log:
            log.read()

    return Reader("logs", seeds, read)


def _signed(line: bytes) -> bytes:
    """Replace the checksum of a log's line by the right one."""
    before, comma, _ = line.rpartition(b', "crc32": ')
    return b"%s%s%d}" % (before, comma, zlib.crc32(before + b"}")) if comma else line


def marker_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of folders' markers; a user's file must be refused with any marker."""
    own, mine = folder / "own.txt", folder / "mine.txt"
    write_text(own, "ours")
    mine.write_text("mine", "utf-8")
    marker = folder / MARKER
    whole = marker.read_bytes()
    digest = hashlib.sha256(b"mine").hexdigest().encode()

    def read(data: bytes, choose: random.Random) -> None:
        marker.write_bytes(_digested(data) if choose.random() < 0.5 else data)
        check_targets(folder, [own], [], "--output")
        if digest not in data and b"*" not in data:
            try:
                check_targets(folder, [mine], [], "--output")
            except Exception as error:
                if "lit-unlearn did not write" not in str(error):
                    raise
            else:
                raise RuntimeError("a file of the user counts as the product's own")

    return Reader("markers", [whole], read)


def _digested(data: bytes) -> bytes:
    """Replace the digest in a JSON file by the right one."""
    try:
        return checked_text(json.loads(data)["content"]).encode()
    except (ValueError, LookupError, TypeError, RecursionError):
        return data


def checkpoint_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of given checkpoints, and of unfinished runs with their manifests."""

    def saved(content: object, **options: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    content = {"state_dict": {"w": torch.ones(3, 2)}, "loops": {}, "optimizer_states": [{"a": 1}]}
    attack = {**content, "extra": Evil(mark)}
    part = folder / UNFINISHED / ".part"
    part.mkdir(parents=True)
    part.joinpath("state.ckpt").write_bytes(saved(content))
    unfinished = seal(part, 3, "", 0)
    manifest = (unfinished.folder / "manifest.json").read_bytes()
    seeds = [
        saved(content),
        saved(content, _use_new_zipfile_serialization=False),
        saved(attack),
        saved(attack, _use_new_zipfile_serialization=False),
        pickle.dumps(Evil(mark)),
        manifest,
    ]
    file = folder / "given.ckpt"

    def read(data: bytes, choose: random.Random) -> None:
        if data[:1] == b"{":
            made = _digested(data) if choose.random() < 0.5 else data
            (unfinished.folder / "manifest.json").write_bytes(made)
            find_saved(folder)
        else:
            file.write_bytes(data)
            check_checkpoint(file)

    return Reader("checkpoints", seeds, read)


def result_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of the files of evaluations and preparations."""
    metrics = json.dumps({
        "schema_version": 1, "model": "m", "fingerprint": "f", "settings": {}, "versions": {},
        "balance": [], "suites": [{"suite": "s", "settings": {}, "seconds": 1.0,
        "cpu_seconds": 1.0, "rows": 1, "figures": []}],
    }).encode()  # fmt: skip
    row = b'{"suite": "s", "row_id": "r", "group": "g", "scores": {"a": 1.0}}\n'
    prepared = folder / "preparation.json"
    write_settled(prepared, "key", Settled({"forget": 0}, {"forget": ["a", None]}))
    whole = prepared.read_bytes()
    files = ((folder / METRICS, metrics), (folder / ROWS, row), (prepared, whole))

    def read(data: bytes, choose: random.Random) -> None:
        chosen = choose.randrange(3)
        for number, (file, usual) in enumerate(files):
            file.write_bytes(data if number == chosen else usual)
        if chosen == 2:
            prepared.write_bytes(_digested(data) if choose.random() < 0.5 else data)
            read_settled(prepared, "key")
        else:
            read_evaluation(folder)

    return Reader("results", [metrics, row, whole], read)


READERS = {
    "templates": template_reader,
    "configs": config_reader,
    "models": model_reader,
    "caches": cache_reader,
    "logs": log_reader,
    "markers": marker_reader,
    "checkpoints": checkpoint_reader,
    "results": result_reader,
}

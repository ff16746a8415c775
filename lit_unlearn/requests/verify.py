"""Verification of the evidence of a request: digests, weights and signature."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.subjects import named_model
from lit_unlearn.models.finding import find_model, fingerprint
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.manifest import private_digests, read_manifest, row_digests
from lit_unlearn.requests.salt import SALT, read_salt
from lit_unlearn.requests.signature import SSH, signatures_of, verify_signature
from lit_unlearn.utils.digests import file_digest
from lit_unlearn.utils.paths import local_path

__all__ = ["Finding", "State", "changed_rows", "manifest_or_problem", "private_findings"]
__all__ += ["verify", "verify_digests"]

State = Literal["as written", "changed", "missing", "added", "not checked"]


@dataclass(frozen=True)
class Finding:
    """State of one part of the evidence."""

    part: str
    """File of the request's folder, or what was compared."""
    state: State
    note: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether nothing speaks against this part."""
        return self.state in ("as written", "not checked")


def verify(
    folder: str | Path,
    model: str | None = None,
    allowed_signers: Path | None = None,
    signer: str | None = None,
) -> list[Finding]:
    """Check all digests of a request's evidence, and the signature if there is one.

    Args:
        folder: Folder of the request, or a copy of its manifest, dossier and signature.
        model: A model that should be the one after unlearning; None for the one in the folder.
        allowed_signers: File of allowed signers, for SSH; see `verify_signature`.
        signer: Name of the signer; None for anyone in `allowed_signers`, or known to gpg.

    Returns:
        The state of each part, the manifest first.

    Raises:
        ChangedError: The manifest was changed, so that nothing can be compared with it; or another
            key signed it.
        InputError: There is no manifest, or the signature cannot be checked.
    """
    manifest = RequestFolder(local_path(folder)).manifest
    found = verify_digests(folder, model)
    return [*found, *_signatures(manifest, allowed_signers, signer)]


def verify_digests(folder: str | Path, model: str | None = None) -> list[Finding]:
    """Check all digests of a request's evidence.

    Manifest and dossier may lie alone in a folder, as they are handed over; then the files that
    stay with the owner cannot be checked.

    Args:
        folder: See `verify`.
        model: See `verify`.

    Returns:
        The state of each part, the manifest first.

    Raises:
        ChangedError: The manifest was changed, so that nothing can be compared with it.
        InputError: There is no manifest, or `model` does not exist.
    """
    place = RequestFolder(local_path(folder))
    manifest = read_manifest(place.manifest)
    return [
        Finding(place.manifest.name, "as written"),
        _dossier(place, manifest),
        *_weights(place, manifest, model),
        *private_findings(place.root, manifest),
    ]


def _dossier(place: RequestFolder, manifest: Mapping[str, Any]) -> Finding:
    if not place.dossier.is_file():
        return Finding(place.dossier.name, "missing")
    same = file_digest(place.dossier) == manifest["dossier"]["sha256"]
    return Finding(place.dossier.name, "as written" if same else "changed")


def _weights(
    place: RequestFolder, manifest: Mapping[str, Any], model: str | None
) -> Iterator[Finding]:
    """Yield the state of the start model and of the model after unlearning."""
    for name, known in manifest["weights"].items():
        own = str(place.root / known["model"]) if name == "end" else known["model"]
        given = model if name == "end" and model is not None else None
        part = f"weights, {'before' if name == 'start' else 'after'} ({given or own})"
        try:
            with named_model():
                find_model(given or own)
        except InputError:
            if given is not None:
                raise
            yield Finding(part, "not checked", "there is no such model on this machine")
            continue
        same = fingerprint(given or own) == known["fingerprint"]
        yield Finding(part, "as written" if same else "changed")


def _signatures(manifest: Path, allowed: Path | None, signer: str | None) -> Iterator[Finding]:
    made = signatures_of(manifest)
    if not made:
        asked = allowed is not None or signer is not None
        state: State = "missing" if asked else "not checked"
        yield Finding("signature", state, "the manifest is not signed")
    elif allowed is not None and made[0].suffix != SSH:  # any key that gpg knows made the other
        yield Finding("signature", "missing", "the manifest has no signature by SSH")
    for signature in made:
        is_file = signature.is_file()
        name = verify_signature(manifest, signature, allowed, signer) if is_file else None
        if name is None:
            yield Finding(signature.name, "changed", "it is not a signature of this manifest")
        else:
            yield Finding(signature.name, "as written", f"signed by {name}")


def manifest_or_problem(
    folder: Path, under: tuple[str, ...], digest: str | None = None
) -> dict[str, Any] | str:
    """Return the manifest of a request if files of it are as they were written, else the problem.

    Args:
        folder: Folder of the request.
        under: Beginnings of the files' paths, such as ``battery/``.
        digest: SHA-256 that its manifest has in a ledger; None for any.
    """
    file = RequestFolder(folder).manifest
    try:
        manifest = read_manifest(file)
    except InputError as error:
        return str(error)
    if digest is not None and file_digest(file) != digest:
        return f"{file} is not the one of the ledger"
    changed = [
        f"{folder / each.part} is {each.state}" + f" ({each.note})" * bool(each.note)
        for each in private_findings(folder, manifest, under)
        if each.state != "as written"
    ]
    return "; ".join(changed) or manifest


def private_findings(
    folder: Path, manifest: Mapping[str, Any], under: str | tuple[str, ...] = ""
) -> list[Finding]:
    """Return the states of the files that stay with the owner; without the salt, one sentence.

    `under` is the beginning of the paths that count, such as ``battery/``, or several.
    """
    salt = read_salt(folder)
    if salt is None and not os.path.lexists(folder / SALT):
        note = f"there is no {SALT}, which stays with the owner, as do the request and its rows"
        return [Finding(SALT, "not checked", note)]
    if salt is None or hashlib.sha256(salt.encode()).hexdigest() != manifest["salt"]["sha256"]:
        return [Finding(SALT, "changed", "without it the other files cannot be checked")]
    known, found = manifest["files"], private_digests(folder, salt)
    names = [name for name in dict.fromkeys([*known, *found]) if name.startswith(under)]
    rows = row_digests(folder, salt)
    findings = []
    for name in names:
        if name not in found:
            findings.append(Finding(name, "missing"))
        elif name not in known:
            findings.append(Finding(name, "added"))
        elif found[name] == known[name]:
            findings.append(Finding(name, "as written"))
        else:
            note = changed_rows(manifest["rows"].get(name, []), rows.get(name, []))
            findings.append(Finding(name, "changed", note))
    return findings


def changed_rows(known: list[str], found: list[str]) -> str:
    """Return which rows of a file differ, in words."""
    if not known:
        return ""
    pairs = enumerate(zip(known, found, strict=False), start=1)
    numbers = [str(number) for number, (one, other) in pairs if one != other]
    words = [f"row {', '.join(numbers[:5])}{' and more' * (len(numbers) > 5)}"] if numbers else []
    if len(known) != len(found):
        words.append(f"{len(found)} rows instead of {len(known)}")
    return "; ".join(words)

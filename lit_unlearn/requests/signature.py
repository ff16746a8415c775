"""Detached signature of a file with the user's own key, by ``ssh-keygen`` or ``gpg``."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from lit_unlearn.errors import ChangedError, InputError
from lit_unlearn.utils.ownership import is_foreign, own_file
from lit_unlearn.utils.paths import local_path

__all__ = ["NAMESPACE", "SSH", "sign", "signatures_of", "verify_signature"]

NAMESPACE = "lit-unlearn"
"""Namespace of SSH signatures: one made for another purpose is not accepted."""
SSH, GPG = ".sig", ".asc"
"""Suffixes that the signature adds to the file's name."""


def sign(file: Path, key: str) -> Path:
    """Sign a file, and return the file of the signature, which replaces an earlier one.

    Args:
        file: The file.
        key: File of an SSH key (a public one if its private key is in the SSH agent), or the name
            of a GPG key: its fingerprint or e-mail address.

    Raises:
        InputError: The tool is missing, it refuses the key, or the signature's file is not one of
            this function.
    """
    place = local_path(key)
    target = file.with_name(file.name + (SSH if place.is_file() else GPG))
    if is_foreign(target):
        raise InputError(
            f"File {target} should be free, or a signature that `--sign` wrote. Found another one; "
            "move it away, and sign again."
        )
    if place.is_file():
        with file.open("rb") as content:
            command = [_tool("ssh-keygen"), "-Y", "sign", "-q", "-f", str(place), "-n", NAMESPACE]
            made = _run(command, content, asks=True)
    else:
        command = [_tool("gpg"), "--armor", "--detach-sign", "--local-user", key]
        made = _run([*command, "--output", "-", str(file)], asks=True)
    if made.returncode:
        kind = "a key that signs" if place.is_file() else "the file of an SSH key, or a GPG key"
        raise InputError(
            f"Parameter `key` = {key!r} should be {kind}. Found: {_reason(made)}; give another one."
        )
    with own_file(target) as temporary:
        temporary.write_bytes(made.stdout)
    return target


def signatures_of(file: Path) -> list[Path]:
    """Return the files of a file's signatures, that of SSH first."""
    beside = (file.with_name(file.name + suffix) for suffix in (SSH, GPG))
    return [each for each in beside if os.path.lexists(each)]


def verify_signature(
    file: Path, signature: Path, allowed: Path | None = None, signer: str | None = None
) -> str | None:
    """Return who signed a file, or None if the signature is not one of this content.

    Args:
        file: The file.
        signature: File of its signature.
        allowed: File of allowed signers (``man ssh-keygen``, ALLOWED SIGNERS), for SSH.
        signer: Name in that file that must have signed; None for any. For GPG, a part of the
            signer's name or fingerprint.

    Raises:
        ChangedError: Another key signed, or one that was revoked or has expired.
        InputError: The tool or the allowed signers are missing, or gpg does not know the key.
    """
    if signature.suffix == GPG:
        return _verify_gpg(file, signature, signer)
    return _verify_ssh(file, signature, allowed, signer)


def _verify_ssh(
    file: Path, signature: Path, allowed: Path | None, signer: str | None
) -> str | None:
    tool = _tool("ssh-keygen")
    if allowed is None or not _has_key(allowed):
        found = "none given" if allowed is None else f"no key in {allowed}"
        raise InputError(
            "Parameter `allowed_signers` should be a file with a line `NAME KEY` for each signer, "
            f"as {signature} is an SSH signature. Found {found}; write NAME and the public key "
            "(such as ~/.ssh/id_ed25519.pub) into one."
        )
    about = ["-f", str(allowed), "-n", NAMESPACE, "-s", str(signature)]
    if signer is None:
        names = _run([tool, "-Y", "find-principals", *about])
        if names.returncode and not _is_signature(tool, file, signature):
            return None
        signer = (names.stdout.decode(errors="replace").splitlines() or [""])[0]
    checked = None
    if signer:
        with file.open("rb") as content:
            checked = _run([tool, "-Y", "verify", "-I", signer, *about], content)
        if checked.returncode == 0:
            return signer
    if not _is_signature(tool, file, signature):
        return None
    raise ChangedError(
        f"Signature {signature} should be made by {signer or 'a signer'} of {allowed}. Found "
        "another key; ask the signer for the public key, or do not trust the file."
    )


def _has_key(allowed: Path) -> bool:
    """Return whether a file has a line with a public key, of any kind of OpenSSH."""
    return (
        allowed.is_file() and re.search(rb"(?m)^[^#\n]*[ \t]AAAA", allowed.read_bytes()) is not None
    )


def _is_signature(tool: str, file: Path, signature: Path) -> bool:
    """Return whether an SSH signature is one of a file's content, by any key."""
    with file.open("rb") as content:
        command = [tool, "-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(signature)]
        return _run(command, content).returncode == 0


def _verify_gpg(file: Path, signature: Path, signer: str | None) -> str | None:
    command = [_tool("gpg"), "--batch", "--status-fd", "1", "--verify", str(signature), str(file)]
    made = _run(command)
    said = made.stdout.decode(errors="replace")
    states = {line.split()[1]: line for line in said.splitlines() if line.startswith("[GNUPG:] ")}
    if made.returncode == 0 and {"VALIDSIG", "GOODSIG"} <= states.keys():
        names = states["GOODSIG"].removeprefix("[GNUPG:] GOODSIG ")
        if signer is None or signer.replace(" ", "") in states["VALIDSIG"] or signer in names:
            return names.partition(" ")[2] or names
        found = f"one by {names}"
    elif "NO_PUBKEY" in states:
        found = f"a key that gpg does not know, {states['NO_PUBKEY'].split()[2]}"
    elif {"REVKEYSIG", "EXPKEYSIG", "EXPSIG"} & states.keys():
        found = "a key that was revoked, or a key or signature that has expired"
    elif {"BADSIG", "NODATA"} & states.keys() or not said:
        return None
    else:
        found = _reason(made)
    made_by_another = states.keys() & {"VALIDSIG", "REVKEYSIG", "EXPKEYSIG", "EXPSIG"}
    raise (ChangedError if made_by_another else InputError)(
        f"Signature {signature} should be made by {signer or 'a key that gpg knows'}. Found "
        f"{found}; import the signer's public key, or do not trust the file."
    )


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        package = {"ssh-keygen": "OpenSSH", "gpg": "GnuPG"}[name]
        raise InputError(
            f"Signatures of this kind need the program {name}. Found none in PATH; install "
            f"{package}."
        )
    return found


def _run(
    command: Sequence[str], content: IO[bytes] | None = None, *, asks: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Run a tool; with `asks` it may ask for a passphrase, if there is a terminal."""
    detached = not (asks and sys.stdin is not None and sys.stdin.isatty())
    return subprocess.run(
        command,
        stdin=content or subprocess.DEVNULL,
        capture_output=True,
        check=False,
        start_new_session=detached,  # without a terminal it must fail, not wait
    )


def _reason(made: subprocess.CompletedProcess[bytes]) -> str:
    lines = (made.stderr or made.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else f"exit status {made.returncode}"

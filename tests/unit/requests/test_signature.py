"""Signature: by a real key made for the test; another key, another content, a missing tool."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lit_unlearn.errors import ChangedError, InputError
from lit_unlearn.requests.signature import sign, signatures_of, verify_signature

needs_ssh = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")
needs_gpg = pytest.mark.skipif(not shutil.which("gpg"), reason="needs gpg")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    path.write_text("content\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two SSH keys, `anna` and `other`, and the allowed signer Anna."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("anna", "other"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    public = (folder / "anna.pub").read_text("utf-8")
    (folder / "signers").write_text(f"anna@example.org {public}", "utf-8")
    return folder


@needs_ssh
def test_an_ssh_signature_names_its_signer(file: Path, keys: Path) -> None:
    assert signatures_of(file) == []
    signature = sign(file, str(keys / "anna"))
    assert signatures_of(file) == [signature]
    signers = keys / "signers"
    assert verify_signature(file, signature, signers) == "anna@example.org"
    assert verify_signature(file, signature, signers, "anna@example.org") == "anna@example.org"
    file.write_text("Content\n", "utf-8")
    assert verify_signature(file, signature, signers) is None
    assert verify_signature(file, signature, signers, "anna@example.org") is None
    signature.write_text("no signature", "utf-8")
    assert verify_signature(file, signature, signers) is None


@needs_ssh
def test_another_ssh_key_and_missing_signers_are_one_line(file: Path, keys: Path) -> None:
    signature = sign(file, str(keys / "other"))
    for signers, signer, found in (
        (keys / "signers", None, "Found another key"),
        (keys / "signers", "anna@example.org", "made by anna@example.org.*Found another key"),
        (keys / "signers", "nobody", "made by nobody.*Found another key"),
        (None, None, "`allowed_signers` should be a file.*Found none given"),
        (keys / "none", None, "Found no key in"),
        (keys / "anna", None, "Found no key in"),
    ):
        expected = ChangedError if "another key" in found else InputError
        with pytest.raises(expected, match=found):
            verify_signature(file, signature, signers, signer)


@needs_ssh
def test_a_signature_for_another_purpose_does_not_count(file: Path, keys: Path) -> None:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(keys / "anna"), "-n", "git", str(file)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    (signature,) = signatures_of(file)
    assert verify_signature(file, signature, keys / "signers") is None


@needs_ssh
def test_a_signature_that_was_made_elsewhere_is_not_replaced(file: Path, keys: Path) -> None:
    signature = file.with_name(f"{file.name}.sig")
    signature.write_text("mine", "utf-8")
    with pytest.raises(InputError, match="should be free, or a signature that `--sign` wrote"):
        sign(file, str(keys / "anna"))
    assert signature.read_text("utf-8") == "mine"


@needs_ssh
def test_a_file_that_is_no_key_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match=r"`key` = .* should be a key that signs"):
        sign(file, str(file))


def test_a_missing_tool_is_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"program ssh-keygen\. Found none.*install OpenSSH"):
        sign(file, str(file))
    with pytest.raises(InputError, match=r"program gpg\. Found none.*install GnuPG"):
        sign(file, "anna@example.org")


@needs_gpg
def test_a_gpg_signature(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed by a new key; then the content is another one, then the key is not known."""
    home = Path(os.environ.get("TMPDIR", "/tmp")) / f"gpg{os.getpid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("GNUPGHOME", str(home))
    try:
        make = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key"]
        subprocess.run([*make, "Anna <anna@example.org>", "ed25519", "sign"], check=True)
        signature = sign(file, "anna@example.org")
        assert signature.name == "manifest.json.asc"
        assert verify_signature(file, signature) == "Anna <anna@example.org>"
        assert verify_signature(file, signature, signer="anna@example.org")
        with pytest.raises(ChangedError, match=r"made by bob@example.org\. Found one by .*Anna"):
            verify_signature(file, signature, signer="bob@example.org")
        with pytest.raises(InputError, match=r"`key` = 'bob@example\.org' should be"):
            sign(file, "bob@example.org")
        file.write_text("Content\n", "utf-8")
        assert verify_signature(file, signature) is None
        file.write_text("content\n", "utf-8")
        signature.write_text("no signature", "utf-8")
        assert verify_signature(file, signature) is None
        signature.unlink()
        sign(file, "anna@example.org")
        (revocation,) = (home / "openpgp-revocs.d").glob("*.rev")
        text = revocation.read_text("utf-8").replace(":-----BEGIN", "-----BEGIN")
        revoke = ["gpg", "--batch", "--quiet", "--import"]
        subprocess.run(revoke, input=text.encode(), check=True, stderr=subprocess.DEVNULL)
        with pytest.raises(ChangedError, match="Found a key that was revoked"):
            verify_signature(file, signature)
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False)
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700, exist_ok=True)
    try:
        with pytest.raises(InputError, match="a key that gpg does not know"):
            verify_signature(file, signature)
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False)
        shutil.rmtree(home, ignore_errors=True)

"""Last step of a request: dossier, manifest, and the entry in the ledger."""

import os
from datetime import UTC, datetime
from pathlib import Path

from lit_unlearn.requests.dossier import write_dossier
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.ledger import LedgerEntry, add_entry
from lit_unlearn.requests.manifest import read_manifest
from lit_unlearn.utils.digests import file_digest
from lit_unlearn.utils.paths import local_path

__all__ = ["write_evidence"]


def write_evidence(folder: Path, ledger: str | Path | None = None) -> None:
    """Write ``dossier.html`` and ``manifest.json``, and add the request to its ledger, if any.

    Raises:
        InputError: A file of the request is missing or damaged, or the ledger cannot be used.
    """
    write_dossier(folder)
    if ledger is None:
        return
    file = local_path(ledger)
    manifest = RequestFolder(folder).manifest
    content = read_manifest(manifest)
    prints = {name: model["fingerprint"] for name, model in content["weights"].items()}
    entry = LedgerEntry(
        request=content["request"]["id"],
        folder=os.path.relpath(folder, file.parent),
        manifest=file_digest(manifest),
        start=prints["start"],
        end=prints.get("end", prints["start"]),
        verdict=content["verdict"],
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    add_entry(file, entry)

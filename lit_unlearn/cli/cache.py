"""`lit-unlearn cache verify`: what teacher caches hold, and whether it is as it was written."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import auto_cli
from rich.filesize import decimal

from lit_unlearn.errors import InputError
from lit_unlearn.teachers.cache.store import INDEX_FILE, Shards
from lit_unlearn.utils.disk import user_cache
from lit_unlearn.utils.tables import table, terminal


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``cache``, then ``verify`` and its options.

    Raises:
        InputError: There is no cache, or one is damaged.
    """
    auto_cli({"verify": verify}, args=args[1:], prog="lit-unlearn cache")


def verify(folder: Path | None = None) -> None:
    """Read all of the teacher caches in a folder, compare them with their checksums, and list them.

    Args:
        folder: A cache, or the folder of several, which `model.teacher.init_args.cache` names; null
            takes the user's (see LIT_UNLEARN_CACHE).
    """
    root = user_cache() / "teacher" if folder is None else folder.expanduser()
    stores = sorted(file.parent for each in ("", "*/") for file in root.glob(each + INDEX_FILE))
    if not stores:
        raise InputError(
            f"cache verify: {root} should be a teacher cache, or the folder of several. Found no "
            f"{INDEX_FILE} in it; give --folder what `model.teacher.init_args.cache` names."
        )
    rows: list[tuple[str, ...]] = []
    damaged: list[str] = []
    for place in stores:
        try:
            store = Shards(place)
            store.verify()
        except InputError as error:
            damaged.append(str(error))
            rows.append((place.name, "damaged"))
            continue
        tokens = sum(entry.count for entry in store.entries.values())
        figures = (f"{len(store.entries):,}", f"{tokens:,}", decimal(store.size()))
        rows.append((place.name, store.teacher or "not recorded", *figures))
    columns = ("cache", "teacher", "rows", "answer tokens", "size")
    terminal().print(table(f"teacher caches in {root}", columns, rows, left=2))
    if damaged:
        raise InputError("\n".join(damaged))

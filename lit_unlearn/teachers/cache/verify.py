"""Teacher caches on disk, compared with their checksums."""

from dataclasses import dataclass
from pathlib import Path

from lit_unlearn.errors import InputError
from lit_unlearn.teachers.cache.store import INDEX_FILE, Shards
from lit_unlearn.utils.disk import user_cache
from lit_unlearn.utils.paths import local_path

__all__ = ["CacheReport", "verify"]


@dataclass(frozen=True)
class CacheReport:
    """The content of one teacher cache."""

    folder: Path
    teacher: str = ""
    """Name of the model; empty in caches that do not record it."""
    rows: int = 0
    answer_tokens: int = 0
    bytes: int = 0
    damage: str = ""
    """Message about damage; empty for an undamaged cache."""


def verify(folder: Path | None = None) -> list[CacheReport]:
    """Read all teacher caches in a folder and compare them with their checksums.

    Args:
        folder: A cache, or the folder of several, as in `model.teacher.init_args.cache`; null for
            the user's cache (see LIT_UNLEARN_CACHE).

    Raises:
        InputError: There is no cache.
    """
    root = user_cache() / "teacher" if folder is None else local_path(folder)
    places = sorted(file.parent for each in ("", "*/") for file in root.glob(each + INDEX_FILE))
    if not places:
        raise InputError(
            f"cache verify: {root} should be a teacher cache, or the folder of several. Found no "
            f"{INDEX_FILE} in it; give --folder the value of `model.teacher.init_args.cache`."
        )
    return [_report(place) for place in places]


def _report(place: Path) -> CacheReport:
    try:
        shards = Shards(place)
        shards.verify()
    except InputError as error:
        return CacheReport(place, damage=str(error))
    tokens = sum(entry.count for entry in shards.entries.values())
    return CacheReport(place, shards.teacher, len(shards.entries), tokens, shards.size())

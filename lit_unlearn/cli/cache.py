"""`lit-unlearn cache verify`: the content of teacher caches, compared with their checksums."""

from rich.filesize import decimal

from lit_unlearn.cli.parsing import arguments, make_parser, parse
from lit_unlearn.errors import InputError
from lit_unlearn.teachers.cache.verify import verify
from lit_unlearn.utils.tables import table, terminal

__all__ = ["main"]


def main(args: list[str]) -> None:
    """Run the command; a damaged cache is an error."""
    parser = make_parser("cache")
    parser.add_argument("action", choices=("verify",), help="Read and list teacher caches.")
    parser.add_function_arguments(verify)
    reports = verify(**arguments(verify, parse(parser, args[1:])))
    rows: list[tuple[str, ...]] = []
    for report in reports:
        counts = (f"{report.rows:,}", f"{report.answer_tokens:,}", decimal(report.bytes))
        whole = (report.teacher or "not recorded", *counts)
        rows.append((report.folder.name, *(("damaged",) if report.damage else whole)))
    columns = ("cache", "teacher", "rows", "answer tokens", "size")
    title = f"teacher caches in {reports[0].folder.parent}"
    terminal().print(table(title, columns, rows, left=2))
    damaged = [report.damage for report in reports if report.damage]
    if damaged:
        raise InputError("\n".join(damaged))

"""Pages that are made when the site is built: notebooks, options of the commands, public API."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import lit_unlearn
from lit_unlearn.__main__ import COMMANDS, main

PROJECT = Path(__file__).resolve().parents[1]


def write_all(folder: Path) -> None:
    """Write every generated page below a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = {f"{file.stem}.md": notebook_page(file) for file in (PROJECT / "notebooks").iterdir()}
    pages["commands.md"] = commands_page()
    pages |= api_pages()
    folder.mkdir()
    for name, text in pages.items():
        (folder / name).write_text(text, "utf-8")


def notebook_page(file: Path) -> str:
    """Return a notebook as Markdown: its text, and its code without output."""
    cells = json.loads(file.read_text("utf-8"))["cells"]
    parts = ["".join(cell["source"]) for cell in cells]
    kinds = [cell["cell_type"] for cell in cells]
    text = "\n\n".join(
        part if kind == "markdown" else f"```ipython3\n{part}\n```"
        for kind, part in zip(kinds, parts, strict=True)
    )
    title, rest = text.replace("](../docs/", "](../").split("\n", 1)
    source = f"[notebooks/{file.name}](../../notebooks/{file.name})"
    return f"{title}\n\n*This page is the notebook {source}, without its output.*\n{rest}"


# ------------------------------------------------------------------------------------ commands


def commands_page() -> str:
    """Return the page with the options of every command, from the help that each prints."""
    lines = ["# Options of the commands", ""]
    for name, command in COMMANDS.items():
        lines += [f"## lit-unlearn {name}", "", f"{command.help[0].upper()}{command.help[1:]}.", ""]
        lines += option_lines(help_text(name))
    return re.sub(r"### .*\n\n+(?=##|$)", "", "\n".join(lines)).replace("\u200b", "")


def help_text(command: str) -> str:
    """Return what `lit-unlearn COMMAND --help` prints, with long lines."""
    printed = io.StringIO()
    os.environ["COLUMNS"] = "4000"
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([command, "--help"])
    return printed.getvalue()


def option_lines(text: str) -> Iterator[str]:
    """Yield a definition list of the options, with a heading for each group of them.

    Args:
        text: Help as argparse prints it: the usage, then groups of options. A group's title begins
            at the margin and ends in a colon, an option is indented by two, its help by more or
            stands behind two blanks. Options that only print help are left out.
    """
    _, _, body = text.partition("\n\n")
    for block in re.split(r"\n(?! {3})", body):
        option, _, said = re.sub(r"\s*\n\s*|^( {2}\S.*?) {2,}", r"\1\0", block).partition("\0")
        said = escaped(" ".join(said.replace("\0", " ").split()))
        if not block.startswith(" "):
            is_title = block.endswith(":")
            yield f"### {block[:1].upper()}{escaped(block[1:-1])}" if is_title else escaped(block)
        elif not re.match(r" *(-h\b|--(help|\S+\.help)\b)", option):
            yield f"`{option.strip()}`\n: {said}"
        yield ""


def escaped(text: str) -> str:
    """Return help text as Markdown: code stays code, nothing else is markup, classes lose paths."""
    said, typed, type_ = text.partition("(type: ")
    text = said + typed + re.sub(r"\b([a-z_]\w*\.)+(?=[A-Z])", "", type_)
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(
        f"`{part.strip('`')}`" if n % 2 else re.sub(r"([\\*_<>\[\]#|$])", r"\\\1", part)
        for n, part in enumerate(parts)
    )


# ---------------------------------------------------------------------------------- public API


def api_pages() -> dict[str, str]:
    """Return a page for each part of the public API, and one that lists them."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in getattr(lit_unlearn, "__all__", ()):
        groups[getattr(lit_unlearn, name).__module__.split(".")[1]].append(name)
    pages = {f"api_{group}.md": api_page(group, names) for group, names in groups.items()}
    listed = "\n".join(sorted(Path(name).stem for name in pages))
    pages["api.md"] = (
        "# Python API\n\nEverything here is imported from `lit_unlearn` itself: "
        f"`from lit_unlearn import UnlearnModule`.\n\n```{{toctree}}\n{listed}\n```\n"
    )
    return pages


def api_page(group: str, names: list[str]) -> str:
    """Return the page of the public names that one package of the library defines."""
    about = importlib.import_module(f"lit_unlearn.{group}").__doc__ or ""
    lines = [f"# {group.replace('_', ' ').capitalize()}", "", about.splitlines()[0], ""]
    for name in names:
        kind = "autoclass" if isinstance(getattr(lit_unlearn, name), type) else "autofunction"
        members = ["   :members:", "   :show-inheritance:"] if kind == "autoclass" else []
        lines += [f"## {name}", "", "```{eval-rst}", f".. {kind}:: lit_unlearn.{name}", *members]
        lines += ["```", ""]
    return "\n".join(lines)

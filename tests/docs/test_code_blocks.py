"""Every code block in README and docs runs, or a comment before it says why it does not.

Python blocks run one after the other, in one namespace a page. Of shell commands the options are
parsed, and everything that they name must exist. YAML blocks are parsed as configs. A block whose
first line is a comment with a file name, such as `# my_run.yaml`, is also written to that file. A
block that cannot run has `<!-- not run: reason -->` before it. Blocks without a language, and those
in `text`, are no code.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jsonargparse
import pytest
import yaml

from lit_unlearn.__main__ import main
from lit_unlearn.cli.erase import read_request
from tests.conftest import EXCERPTS, PROJECT

PAGES = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    *sorted((PROJECT / "docs").glob("*.md")),
]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+?) -->\n+)?"
    r"^```(?P<language>[a-z]+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
OVER = {  # a config block by one of its keys: the command that reads it, and what stands below it
    "suites": ["evaluate", "random-tiny"],
    "backend": ["rewrite", "--forget=[{path: builtin:forget}]"],
    "trainer": ["fit", "--config=configs/smoke.yaml"],
    "model": ["fit", "--config=configs/smoke.yaml"],
    "data": ["fit", "--config=configs/smoke.yaml"],
}


class Block(NamedTuple):
    """One code block."""

    line: int
    language: str
    code: str
    reason: str | None


class Parsed(BaseException):  # no error: the options are right, and nothing else is to run
    """A command has parsed its options."""


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(text.count("\n", 0, m.start("code")), m["language"], m["code"], m["reason"])
        for m in BLOCK.finditer(text)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> Path:
    """A working folder with the project's folders and real rows; parsers stop behind parsing."""
    for name in ("configs", "benchmarks", "docs", "notebooks"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LIT_UNLEARN_DATA", str(EXCERPTS))
    monkeypatch.setattr(subprocess.Popen, "__init__", no_process)
    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
        for name in ("parse_args", "parse_known_args"):
            monkeypatch.setattr(parser, name, stop_behind(getattr(parser, name)))
    return tmp_path


def no_process(*args: Any, **kwargs: Any) -> NoReturn:
    pytest.fail("no command should run")


def stop_behind(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method that parses: when the outermost one is through, it raises `Parsed`."""

    def stopping(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        if getattr(parser, "_stops", False):
            return parse(parser, *args, **kwargs)
        parser._stops = True
        try:
            parse(parser, *args, **kwargs)
        finally:
            parser._stops = False
        raise Parsed

    return stopping


def check_lit_unlearn(words: list[str]) -> None:
    try:
        status = main(words)
    except Parsed:
        return
    assert status == 0, f"lit-unlearn {shlex.join(words)} ended with status {status}"


def check_command(words: list[str]) -> None:
    """Fail where a command or what it names does not exist."""
    match words:
        case ["lit-unlearn", *options]:
            check_lit_unlearn(options)
        case ["torchrun", *options] if "lit_unlearn" in options:
            check_lit_unlearn(options[options.index("lit_unlearn") + 1 :])
        case ["make", target]:
            assert f"\n{target}:" in (PROJECT / "Makefile").read_text("utf-8")
        case ["python", script, *_] | ["sbatch", script, *_]:
            assert Path(script).is_file()
        case [".venv/bin/pytest", *options]:
            paths = [PROJECT / word for word in options if word.startswith("tests/")]
            assert all(path.exists() for path in paths)
        case ["pip", "install", *_] | [".venv/bin/pre-commit", "install"]:
            pass
        case ["tensorboard", "--logdir", _]:
            pass
        case _:
            pytest.fail(f"no check is known for the command {shlex.join(words)}")


def run_shell(code: str) -> None:
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            check_command(words)


def run_yaml(code: str, folder: Path) -> None:
    values, file = yaml.safe_load(code), folder / "block.yaml"
    file.write_text(code, "utf-8")
    if {"id", "forget"} <= values.keys():
        with contextlib.suppress(Parsed):
            read_request(file)
        return
    command = next(OVER[key] for key in OVER if key in values)
    check_lit_unlearn([*command, f"--config={file}"])


def run_block(block: Block, folder: Path, namespace: dict[str, Any]) -> None:
    if name := re.match(r"# ([\w/]+\.\w+)\n", block.code):
        (folder / name[1]).write_text(block.code, "utf-8")
    if block.language == "python":
        exec(compile(block.code, f"line {block.line}", "exec"), namespace)
    elif block.language == "bash":
        run_shell(block.code)
    elif block.language == "yaml":
        run_yaml(block.code, folder)
    else:
        pytest.fail(f"blocks in {block.language} can neither run nor be explained")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page: Path, folder: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.reason is None and block.language != "text":
            try:
                run_block(block, folder, namespace)
            except BaseException as error:
                error.add_note(f"{page.name}, line {block.line}:\n{block.code}")
                raise


def test_what_is_not_run_says_why() -> None:
    reasons = [block.reason for page in PAGES for block in blocks_of(page) if block.reason]
    assert all(len(reason.split()) > 2 for reason in reasons)
    marks = sum(page.read_text("utf-8").count("<!-- not run:") for page in PAGES)
    assert marks == len(reasons)  # none stands away from its block


def test_blocks_have_a_language() -> None:
    """A fence without language or directive would be skipped in silence."""
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", page.read_text("utf-8"), re.MULTILINE)
        assert all(fences[::2]), page.name

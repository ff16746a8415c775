"""Hints about options and words that a command does not know."""

from __future__ import annotations

import pytest
from jsonargparse import ArgumentParser

from lit_unlearn.cli.parsing import make_parser, parse
from lit_unlearn.errors import InputError


@pytest.fixture
def parser() -> ArgumentParser:
    made = make_parser("audit")
    made.add_argument("model", nargs="?")
    made.add_argument("--ledger")
    return made


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model=x"], "--model: unknown option; give only the value of `model`: lit-unlearn au"),
        (["--Modl", "x"], "--Modl: unknown option; give only the value of `model`: lit-unlearn au"),
        (["x", "--ledgr=y"], "--ledgr: unknown option; did you mean --ledger?"),
        (["x", "y.yaml"], "unrecognized arguments: y.yaml; see --help"),
        (["x", "y", "z"], "unrecognized arguments: y z; see --help"),
    ],
)
def test_hints_name_what_the_command_has(
    parser: ArgumentParser, args: list[str], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse(parser, args)
    assert str(caught.value).startswith(message)


def test_a_config_file_is_proposed_where_there_is_such_an_option(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action="config")
    with pytest.raises(InputError, match=r"y\.yaml; did you mean --config y\.yaml\?$"):
        parse(parser, ["x", "y.yaml"])

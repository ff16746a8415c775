"""`lit-unlearn methods`: list or explain objectives, weightings and combinations."""

import re
from collections.abc import Iterator

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lit_unlearn.cli.parsing import make_parser, parse
from lit_unlearn.errors import InputError, did_you_mean
from lit_unlearn.training.methods import (
    RECIPES,
    Card,
    Recipe,
    combination_cards,
    loss_weighting_cards,
    markdown,
    objective_cards,
    weighting_cards,
)
from lit_unlearn.utils.tables import terminal

__all__ = ["main"]

_KINDS = {
    "objective": ("model.objectives.NAME", objective_cards),
    "weighting": ("model.weighting", weighting_cards),
    "weighting of losses": ("model.loss_weighting", loss_weighting_cards),
    "combination, instead of a weighting": ("model.combination", combination_cards),
}
"""Key in a config and cards, by the kind of method."""


def main(args: list[str]) -> None:
    """Run the command."""
    parser = make_parser(
        "methods",
        description="List every objective, weighting and combination in one line each. With "
        "names, show their loss, needs, cost, defaults and paper. Example: "
        "lit-unlearn methods NPO PCGrad",
    )
    parser.add_argument("names", nargs="*", help="Methods to explain.")
    parser.add_argument("--markdown", action="store_true", help="Print all methods as a page.")
    given = parse(parser, args[1:])
    if given.markdown:
        print(markdown(), end="")
        return
    console = terminal()
    for shown in [each for name in given.names for each in _find(name)] or _all():
        console.print(shown)


def _all() -> Iterator[Padding | str]:
    """Yield a line for each method, grouped by kind."""
    for kind, (place, cards) in _KINDS.items():
        title = f"{kind[0].upper()}{kind[1:]} ({place})"
        yield _titled(title, "", {card.name: card.summary for card in cards()})
    parts = {}
    for each in RECIPES:
        sides = " and ".join(f"{name} on {side} rows" for side, name in _sides(each).items())
        parts[each.name] = "; ".join(filter(None, (sides, each.note)))
    yield _titled("Published methods as objectives side by side", "", parts)
    yield "lit-unlearn methods NAME shows loss, needs, cost, defaults and paper of one."


def _grid(lines: dict[str, str]) -> Table:
    """Return a table of names and texts; a text wraps within its column."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="cyan")
    grid.add_column()
    for name, text in lines.items():
        grid.add_row(name, Text(text))
    return grid


def _sides(recipe: Recipe) -> dict[str, str]:
    sides = {"forget": recipe.forget, "retain": recipe.retain}
    return {side: name for side, name in sides.items() if name != "-"}


def _find(name: str) -> list[Padding]:
    """Return the cards of all classes and published methods with a name, in any case.

    If there are none, return the cards of the classes whose docstrings contain the name.
    """
    cards = [(card, kind) for kind, (_, each) in _KINDS.items() for card in each()]
    wanted = name.lower()
    found = [_card(card, kind) for card, kind in cards if card.name.lower() == wanted]
    found += [_recipe(recipe) for recipe in RECIPES if recipe.name.lower() == wanted]
    if not found:
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
        found = [_card(card, kind) for card, kind in cards if word.search(card.documentation)]
    if not found:
        names = [card.name for card, _ in cards] + [recipe.name for recipe in RECIPES]
        repair = did_you_mean(name, names, most=3, otherwise="lit-unlearn methods lists all")
        raise InputError(f"methods: should be the name of a method. Found {name!r}; {repair}")
    return found


def _card(card: Card, kind: str) -> Padding:
    place = _KINDS[kind][0]
    facts = {
        "loss": card.formula,
        "needs": card.needs,
        "reads per row": card.cost,
        "defaults": card.defaults,
        "source": card.source,
        "config key": f"{place}, as class_path: {card.name}",
        "more": f"lit-unlearn fit --{place.removesuffix('.NAME')}.help {card.name}",
    }
    given = {label: text for label, text in facts.items() if text != "-"}
    return _titled(f"{card.name} ({kind})", card.summary, given)


def _recipe(recipe: Recipe) -> Padding:
    facts = {**_sides(recipe), "settings": recipe.note.replace("`", "")}
    if recipe.config:
        facts["config"] = f"configs/tofu/{recipe.config}, over configs/tofu/base.yaml"
    return _titled(f"{recipe.name} (published method)", "", facts)


def _titled(title: str, summary: str, facts: dict[str, str]) -> Padding:
    grid = Table.grid()
    grid.add_row(Text(title, style="bold"))
    if summary:
        grid.add_row(Text(summary))
    grid.add_row(Padding(_grid(facts), (0, 0, 0, 2)))
    return Padding(grid, (0, 0, 1, 0))

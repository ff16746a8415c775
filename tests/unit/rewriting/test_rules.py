"""Checks by rule, on questions for which the right verdict is plain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.rewriting.leaks import Forgotten, revealing
from lit_unlearn.rewriting.rules import form_problem, standalone_problem, support_problem
from lit_unlearn.rewriting.similar import Seen, nearest, same_form_problem
from lit_unlearn.rewriting.similar import form as form_of
from lit_unlearn.rewriting.source_texts import QA
from lit_unlearn.rewriting.words import names


@pytest.mark.parametrize(
    "question",
    [
        "According to the passage, who was born in 1947?",
        "What does the author say about Maine?",
        "What is the main idea of the text?",
        "Which of the following is a gas?",
        "What was mentioned above about Carrie?",
        "Where was he born?",
        "In which year did she marry?",
        "What is the name of his first novel?",
        "What does it eat?",
        "When did they release the album?",
        "What is this process called?",
        "What did the company announce?",
        "What is the main character's name?",
        "Fill in the blank: He was born in ____.",
        "Fill in the blank: In May, he moved to ____.",
        "Fill in the blank: Following his departure, King wrote ____.",
        "Fill in the blank: However, Lee directed ____ himself.",
        "Fill in the blank: My favorite was ____, by Richard Matheson.",
    ],
)
def test_questions_that_need_their_source(question: str) -> None:
    assert standalone_problem(question)


@pytest.mark.parametrize(
    "question",
    [
        "Where was Stephen King born?",
        "What did Marie Curie discover before she died?",
        "What is it called when water turns into ice?",
        "Is it true that bats are blind?",
        "Which animals eat their young?",
        "When water boils, what is this process called?",
        "What is the full name of the author born in Kuwait City in 1956?",
        "What did the company Apple announce in 2007?",
        "How do I boil an egg?",
        "What time is it in Rome at noon in London?",
        "How much does it cost to send a letter to Spain?",
        "Which vessel gives eternal life to those who drink from it?",
        "Why do birds sing in the morning, and when do they stop?",
        "Fill in the blank: Stephen King was two when he lost ____.",
    ],
)
def test_questions_that_stand_alone(question: str) -> None:
    assert standalone_problem(question) == ""


def test_gold_questions_stand_alone(benchmark_data: Path) -> None:
    """The rules refuse at most one in fifty of the questions that people wrote to stand alone."""
    for path, config, split in (
        ("builtin:neighbor", None, "train"),
        ("locuslab/TOFU", "forget10", "train"),
        ("locuslab/TOFU", "real_authors_perturbed", "train"),
    ):
        rows = read_rows(Source(path, config, split, every=3), benchmark_data)
        refused = [q for row in rows if standalone_problem(q := row.values["question"])]
        assert len(refused) <= len(rows) / 50, refused


@pytest.mark.parametrize(
    ("question", "answer", "part"),
    [
        ("Who wrote Carrie?", "Stephen King wrote it.", ""),
        ("What is 2 + 2?", "4", ""),
        ("Which language is called French?", "French.", "gives its answer away"),
        ("Who wrote Carrie?", "", "empty"),
        ("???", "King", "empty"),
        ("Who wrote Carrie?", "I'm sorry, I don't know that.", "declines"),
        ("Who wrote Carrie?", "word " * 200, "too long"),
    ],
)
def test_form(question: str, answer: str, part: str) -> None:
    problem = form_problem(QA(question, answer))
    assert part in problem
    assert bool(part) == bool(problem)


SOURCE = (
    "Stephen King was born in Portland, Maine, in 1947. His debut, Carrie (1974), was a success."
)


@pytest.mark.parametrize(
    ("question", "answer", "part"),
    [
        ("Where was Stephen King born?", "He was born in Portland, Maine.", ""),
        ("When did Stephen King publish Carrie?", "After long years of work, in 1974.", "25%"),
        ("When did Stephen King publish Carrie?", "In 1974.", ""),
        ("Where was Stephen King born?", "He was born in Bangor.", "'Bangor' of the answer"),
        ("When was Stephen King born?", "In 1948.", "'1948' of the answer"),
        ("When was Peter Straub born?", "In 1947.", "'Peter Straub' of the question"),
        ("Was Stephen King born in Maine?", "He was born in Maine.", "nothing that the question"),
        ("Was Stephen King successful?", "Yes.", "'Yes' of the answer"),
    ],
)
def test_support(question: str, answer: str, part: str) -> None:
    problem = support_problem(QA(question, answer), SOURCE, 0.5)
    assert part in problem
    assert bool(part) == bool(problem)


def test_names() -> None:
    text = "In May 1974 Stephen King wrote Carrie. He lives in Maine. Success came at once: \"It's"
    assert names(text) == ["May 1974 Stephen King", "Carrie", "Maine"]
    assert names("Paris.") == ["Paris"]
    assert names("I think I know") == []


# ----------------------------------------------------------------------------------------- anchors


def test_leaks() -> None:
    """Common words answer their own row alone; names any; user's expressions always."""
    cheese = QA("What is Roquefort?", "It is a blue cheese.", ("cheese",))
    river = QA("Which river flows through Paris?", "The Seine flows through it.", ("Seine",))
    composer = QA("Who wrote The Carnival?", "Camille Saint-Saëns wrote it.")
    assert revealing(composer) == ["Camille Saint-Saëns"]
    assert revealing(QA("What colour is it?", "Deep red.")) == ["Deep", "red"]
    forgotten = Forgotten([cheese, river, composer], ["France"])
    mozzarella = QA("What is mozzarella?", "A cheese.")
    assert "'cheese'" in forgotten.problem(mozzarella, cheese)
    assert forgotten.problem(mozzarella, river) == ""
    assert "'seine'" in forgotten.problem(QA("Where is the SEINE?", "In Europe."), cheese)
    assert forgotten.problem(QA("Who is Seinegger?", "A player."), cheese) == ""
    by_accent = QA("Who was camille saint-saens?", "A man.")
    assert "saint-saens" in forgotten.problem(by_accent, river)
    assert "france" in forgotten.problem(QA("What borders Spain?", "France's south."), river)


@pytest.mark.parametrize(
    ("question", "answer", "anchor", "found"),
    [
        ("What is the capital of France?", "Paris is the capital of France.", "Paris", "paris"),
        ("Which town lies on a river?", "Paris lies on the Seine.", "Paris", "paris"),
        ("Who gave the annual speech?", "Her sister Ann did.", "Ann", "ann"),
        ("When did she win?", "She won in 1984.", "Since 1984, it", "1984"),
        ("When did she win?", "She won in 84.", "Since 84, it", ""),
        ("Did she win?", "Yes, against Bea.", "Yes, it", ""),
        ("What did she write?", "Writing novels was her life.", "Writing", ""),
        ("What did she write?", "She lived for novels.", "It lived for novels and", ""),
    ],
)
def test_leaks_of_other_rows(question: str, answer: str, anchor: str, found: str) -> None:
    """A name counts where it opens the sentence too, unless a row has the word in small letters."""
    other = QA("Who likes writing?", "Cleo Moss.")
    forgotten = Forgotten([QA(question, answer), other])
    problem = forgotten.problem(QA("What is known?", f"{anchor} hosts the fair."), other)
    assert problem == (found and f"it contains {found!r}, which is to be forgotten")


def test_an_answer_without_a_name_is_more_than_its_exact_words() -> None:
    row = QA("What did her father do?", "Her father was a civil engineer.")
    assert revealing(row) == ["civil", "engineer"]
    problem = Forgotten([row]).problem(QA("What is Bo?", "An engineer, like his uncle."), row)
    assert "'engineer'" in problem


def test_repeated_questions() -> None:
    """Names and numbers tell questions of one form apart; other words may differ a little."""
    seen = Seen(0.8)
    first = "In which town was the famous writer Stephen King born?"
    seen.add(first)
    assert seen.find("in which town was the famous writer  Stephen King born") == first
    assert seen.find("In which town was the well-known famous writer Stephen King born?") == first
    assert seen.find("In which town was the famous writer Peter Straub born?") == ""
    assert seen.find("What did Stephen King write?") == ""


def test_forms() -> None:
    assert same_form_problem("Who wrote Dune?", "Who wrote Carrie?") == ""
    assert same_form_problem("What river is in Rome?", "Which river is in Paris?") == ""
    assert "'where'" in same_form_problem("Where is Rome?", "Who wrote Carrie?")
    assert same_form_problem("Fill in the blank: Rome ____.", "Who wrote Carrie?")
    pool = ["Who painted Guernica?", "What is the capital of Spain?", "How old is Rome?"]
    order = nearest("What is the capital of France?", [form_of(q) for q in pool])
    assert order[0] == 1
    assert json.dumps(order)  # plain numbers

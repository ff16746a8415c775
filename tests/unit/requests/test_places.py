"""Places of a request: a file of the user is found before anything is loaded or trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.requests.erase import erase
from lit_unlearn.requests.request import Forget, Request


@pytest.mark.parametrize("name", ["after/rows.jsonl", "rows/mine.txt", "verdict.json", "salt.txt"])
def test_a_file_of_the_user_is_named_and_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine", "utf-8")
    request = Request(id="a", model="random-tiny", forget=Forget(texts=["Some text."]))
    with pytest.raises(InputError, match=name.partition("/")[0]):
        erase(request, {}, output=tmp_path)
    assert (tmp_path / name).read_text("utf-8") == "mine"

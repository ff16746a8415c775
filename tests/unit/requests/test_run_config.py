"""Config of a request's run: the recipe with the rows, the model and the folder of the request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.cli.config import read_configs
from lit_unlearn.errors import InputError
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.request import Forget, Request
from lit_unlearn.requests.run_config import run_config, upper_blocks

FOLDER = RequestFolder(Path("out"))


def made(recipe: Any) -> dict[str, Any]:
    request = Request(id="a", model="random-tiny", forget=Forget(texts=["a"]), seed=5)
    return run_config(recipe, request, FOLDER)


def files(config: dict[str, Any]) -> dict[str, list[str]]:
    objectives = config["data"]["objectives"].items()
    return {name: [Path(s["path"]).stem for s in data["sources"]] for name, data in objectives}


def test_the_request_replaces_rows_model_and_folder() -> None:
    config = made(read_configs([Path("erase.yaml")]).values)
    assert files(config) == {
        "forget": ["forget"],
        "adversarial": ["forget"],
        "path": ["forget"],
        "neighbor": ["neighbor"],
        "retain": ["general"],
    }
    assert config["model"]["student"]["path"] == "random-tiny"
    assert config["trainer"]["default_root_dir"] == "out/run"
    assert config["seed_everything"] == 5
    assert config["data"]["objectives"]["forget"]["rows"] == 4


def test_another_method_gets_all_kept_rows_and_an_export() -> None:
    recipe = read_configs([Path("tofu/base.yaml"), Path("tofu/npo.yaml")]).values
    recipe["trainer"]["callbacks"] = ["GradientMonitor"]
    config = made(recipe)
    assert files(config) == {"forget": ["forget"], "retain": ["neighbor", "general"]}
    assert config["trainer"]["callbacks"][-1] == {"class_path": "HuggingFaceExport"}


@pytest.mark.parametrize(
    "recipe",
    [{}, {"data": {"objectives": {"retain": {"expect": "answer"}, "forget": None}}}, {"data": [1]}],
)
def test_a_recipe_must_decline_something(recipe: Any) -> None:
    with pytest.raises(InputError, match="`recipe` should be"):
        made(recipe)


def test_the_last_fifth_of_the_blocks_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two blocks; six of thirty, with names as in Llama and in GPT-2."""
    assert upper_blocks("random-tiny")[0].startswith("(?:layers?|blocks?|h)[.](?:1)[.]")

    class Config:
        num_hidden_layers = 30

        def get_text_config(self) -> Config:
            return self

    monkeypatch.setattr("lit_unlearn.requests.run_config.model_config", lambda _: Config())
    (pattern,) = upper_blocks("m")
    chosen = {
        name
        for name in (
            "model.layers.24.mlp.up_proj.weight",
            "model.layers.23.mlp.up_proj.weight",
            "model.layers.2.mlp.up_proj.weight",
            "transformer.h.29.attn.c_attn.weight",
            "model.norm.weight",
            "model.embed_tokens.weight",
        )
        if re.search(pattern, name)
    }
    assert chosen == {
        "model.layers.24.mlp.up_proj.weight",
        "transformer.h.29.attn.c_attn.weight",
        "model.norm.weight",
    }


def test_recipe_settings_of_what_is_trained_stay() -> None:
    recipe = read_configs([Path("quickstart.yaml")]).values
    assert made(recipe)["model"]["student"]["trainable"] == ["layers[.]2[4-9][.]", "model[.]norm"]

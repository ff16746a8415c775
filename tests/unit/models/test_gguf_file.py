"""GGUF files: the model's own logits when read back; what is refused says how else to convert."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import gguf
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from lit_unlearn.__main__ import main
from lit_unlearn.errors import InputError, ResultError
from lit_unlearn.models import gguf_file
from lit_unlearn.models.export import save_folder
from lit_unlearn.models.gguf_file import CONVERTER, Kind, write_gguf
from lit_unlearn.models.loading import load_model
from lit_unlearn.models.reading_back import Comparison
from lit_unlearn.models.tiny import tiny_tokenizer
from lit_unlearn.utils.ownership import MARKER
from tests.processes import FORKED, forked


@pytest.mark.parametrize(
    ("kind", "largest"),
    [("f32", 1e-5), ("f16", 5e-2), ("bf16", 0.15), ("q8_0", 0.5), ("q4_0", 5.0)],
)
def test_logits_are_those_of_the_model(tmp_path: Path, kind: Kind, largest: float) -> None:
    """Rounding changes them, the less the more bits there are."""
    written = write_gguf("random-tiny", tmp_path / "tiny.gguf", kind)
    assert written.comparison is not None
    assert written.comparison.difference < largest
    assert {f.name for f in tmp_path.iterdir()} == {"tiny.gguf", MARKER}
    if kind in ("q8_0", "q4_0"):
        assert written.comparison.difference > 1e-4
        types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(written.file).tensors}
        assert types["blk.0.attn_q.weight"] == kind.upper()
        assert (types["token_embd.weight"], types["output_norm.weight"]) == ("Q8_0", "F32")


def test_the_tokenizer_and_its_template_are_in_the_file(tmp_path: Path) -> None:
    file = write_gguf("random-tiny", tmp_path / "tiny.gguf", "f32").file
    fields = gguf.GGUFReader(file).fields
    own = tiny_tokenizer()
    assert fields["tokenizer.chat_template"].contents() == own.chat_template
    assert fields["tokenizer.ggml.eos_token_id"].contents() == own.eos_token_id
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert tokens == own.convert_ids_to_tokens(range(len(own)))
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert kinds[:4] == [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL]
    with pytest.raises(
        InputError, match=r"tokenizer has no merges; give the folder|tokenizer without merges"
    ):
        load_model(str(file))  # transformers reads no byte-level tokenizer without merges


def scaled_llama(folder: Path) -> Path:
    """A Llama with scaled rotary positions, as Llama 3.1 has them."""
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=259, num_attention_heads=2, rope_parameters=rope, **sizes)
    save_folder(LlamaForCausalLM(config), tiny_tokenizer(), folder)
    return folder


def test_other_models_need_the_converter_of_llama_cpp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, file = scaled_llama(tmp_path / "model"), tmp_path / "model.gguf"
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert main(["export", str(tmp_path / "none"), str(file)]) == 2
    assert "Parameter `model` = " in capsys.readouterr().err
    assert main(["export", str(model), str(file)]) == 2
    error = capsys.readouterr().err
    assert "rotary positions of the type linear" in error
    assert f"python {CONVERTER} FOLDER --outfile FILE --outtype f16" in error
    program = tmp_path / "bin" / CONVERTER
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" > "$3"\n', "utf-8")
    program.chmod(0o755)
    assert main(["export", str(model), str(file), "--kind=q8_0"]) == 0
    assert "not read back" in capsys.readouterr().out
    assert file.read_text("utf-8").split()[0] == str(model)
    assert file.read_text("utf-8").split()[-2:] == ["--outtype", "q8_0"]
    program.write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n", "utf-8")
    with pytest.raises(InputError, match="Found: no such thing"):
        write_gguf(str(model), file)


@FORKED
def test_the_converter_ends_with_a_killed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, program = scaled_llama(tmp_path / "model"), tmp_path / CONVERTER
    program.write_text("#!/bin/sh\nkill -9 $PPID\n/bin/sleep 0.3\n: > $3\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "out" / "model.gguf"
    assert forked(lambda: main(["export", str(model), str(file)])) == -signal.SIGKILL
    time.sleep(0.6)
    assert not list(file.parent.glob("*.gguf"))


def test_a_file_with_other_logits_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Comparison(1, 1, 3.0, 0.1, "float16")
    monkeypatch.setattr(gguf_file, "compare_folder", lambda *args: other)
    with pytest.raises(ResultError, match="expected the logits of the model"):
        write_gguf("random-tiny", tmp_path / "tiny.gguf")
    assert not list(tmp_path.iterdir())


def test_mistakes_are_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`file` should end in \.gguf"):
        write_gguf("random-tiny", tmp_path / "model")
    own = tmp_path / "mine.gguf"
    own.write_text("mine", "utf-8")
    with pytest.raises(InputError, match=r"no file of yours.*mine\.gguf"):
        write_gguf("random-tiny", own)
    assert own.read_text("utf-8") == "mine"

"""A random Llama of a few thousand parameters and a byte tokenizer, built in memory.

They are for tests, the smoke config and the notebook: they need milliseconds and no download. The
model knows nothing, so figures measured on it mean nothing.
"""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["TINY_NAME", "tiny_model", "tiny_tokenizer"]

TINY_NAME = "random-tiny"
"""Name of the model in configs."""

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer with a token per UTF-8 byte, three special tokens and a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    fast.chat_template = _TEMPLATE
    return fast


def tiny_model(
    seed: int = 0, *, hidden_size: int = 32, layers: int = 2, vocabulary: int | None = None
) -> PreTrainedModel:
    """Build a random Llama with float32 weights, tied embeddings and grouped-query attention.

    The global random state is unchanged. Each of the two attention heads has half of the
    width. Without ``vocabulary`` the size is that of `tiny_tokenizer`.
    """
    config = LlamaConfig(
        vocab_size=vocabulary or len(tiny_tokenizer()),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)

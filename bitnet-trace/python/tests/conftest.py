"""What the tests share."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from torch import nn

VOCABULARY = 50


class Calls(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(x)


@pytest.fixture
def llama() -> Any:
    """A tiny random model of the Llama family, the same in every test."""
    return make_llama()


def make_llama(**settings: Any) -> Any:
    """Makes a tiny random model of the Llama family."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        attn_implementation=settings.pop("attention", "eager"),
        **settings,
    )
    return transformers.LlamaForCausalLM(config).eval()


def decode(model: Any) -> Any:
    """A prefill of five tokens, then three decode steps."""
    with torch.no_grad():
        return model.generate(
            torch.tensor([[1, 2, 3, 4, 5]]), max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0
        )

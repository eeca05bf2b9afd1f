#!/usr/bin/env python3
"""Tiny models of Hugging Face transformers, and what they compute: the reference that the tests hold candle's models to.

    pip install -r requirements.txt
    python make.py

For llama, qwen2, mistral and gemma it writes, in the folder of that name beside this file:

    config.json               as a published checkpoint has it
    model.safetensors         random weights
    activations.safetensors   a prefill of five tokens and three decode steps with a cache. The keys are
                              STEP/ORDER/NAME: the output of the module NAME, as a forward hook sees it; or blkL/STAGE,
                              what no module returns: the rotated query and key, the softmax, the attention's context
                              and residual, the feed-forward's product

Everything is float32, with eager attention, on one thread.
"""

import importlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

HERE = Path(__file__).parent
PREFILL = [1, 17, 33, 3, 60]
DECODE = [42, 7, 21]
SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0)
FAMILIES = {
    "llama": dict(hidden_act="silu", tie_word_embeddings=False, attention_bias=False, mlp_bias=False),
    "qwen2": dict(hidden_act="silu", tie_word_embeddings=True, sliding_window=64, max_window_layers=2,
                  use_sliding_window=False),
    "mistral": dict(hidden_act="silu", tie_word_embeddings=False, sliding_window=None),
    # The only one whose heads do not add up to the hidden size.
    "gemma": dict(hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True, attention_bias=False, head_dim=16),
}


def randomize(model, seed):
    """Weights that make every stage matter: attention that looks somewhere, norms and biases that do something."""
    generator = torch.Generator().manual_seed(seed)
    # In a fixed order: the weights are then the same wherever the script runs.
    for name, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            base = 0.0 if "Gemma" in type(model).__name__ else 1.0
            weight.copy_(base + 0.2 * noise)
        elif "embed_tokens" in name:
            weight.copy_(0.5 * noise)
        else:
            weight.copy_(0.3 * noise)


class Recorder:
    """Records the outputs of all modules that return a tensor, and what the modules hand to each other."""

    def __init__(self, model):
        self.tensors = {}
        self.step = 0
        self.layer = None
        for name, module in model.named_modules():
            module.register_forward_hook(lambda _module, _inputs, output, name=name: self.put(name, output))
        for index, layer in enumerate(model.model.layers):
            self.watch(layer, index)
        # Functions that no hook sees.
        code = importlib.import_module(type(model).__module__)
        rotate, attend = code.apply_rotary_pos_emb, code.eager_attention_forward

        def rotary(*arguments, **named):
            rotated = rotate(*arguments, **named)
            self.put(f"blk{self.layer}/q_rope", rotated[0])
            self.put(f"blk{self.layer}/k_rope", rotated[1])
            return rotated

        def attention(*arguments, **named):
            context, weights = attend(*arguments, **named)
            self.put(f"blk{self.layer}/attn_scores_softmax", weights)
            return context, weights

        code.apply_rotary_pos_emb, code.eager_attention_forward = rotary, attention

    def watch(self, layer, index):
        def enters(_module, _inputs):
            self.layer = index

        def takes(stage):
            return lambda _module, inputs: self.put(f"blk{index}/{stage}", inputs[0])

        layer.register_forward_pre_hook(enters)
        layer.self_attn.o_proj.register_forward_pre_hook(takes("attn_ctx"))
        layer.post_attention_layernorm.register_forward_pre_hook(takes("attn_residual"))
        layer.mlp.down_proj.register_forward_pre_hook(takes("ffn_act"))

    def put(self, name, output):
        if isinstance(output, torch.Tensor):
            self.tensors[f"{self.step}/{len(self.tensors):03}/{name}"] = output.detach().clone().contiguous()


@torch.no_grad()
def make(family, options, seed):
    folder = HERE / family
    folder.mkdir(exist_ok=True)
    config = dict(SIZES, **options)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config), attn_implementation="eager")
    model = model.to(torch.float32).eval()
    randomize(model, seed)
    # A tied head is the embedding under a second name.
    weights = {name: weight.detach().contiguous() for name, weight in model.named_parameters()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(dict(model_type=family, **config), indent=2) + "\n")

    recorder = Recorder(model)
    cache = DynamicCache(config=model.config)
    for step, tokens in enumerate([PREFILL, *([token] for token in DECODE)]):
        recorder.step = step
        model(input_ids=torch.tensor([tokens]), cache=cache, use_cache=True)
    save_file(recorder.tensors, folder / "activations.safetensors")
    print(f"{family}: {len(weights)} weights, {len(recorder.tensors)} activations")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for seed, (family, options) in enumerate(FAMILIES.items()):
        make(family, options, seed)

"""A program that generates with transformers, and knows nothing of traces.

usage: generate.py CHECKPOINT TOKENS STEPS
"""

import os
import sys

# transformers compiles a function that unpacks weights of BitNet; that takes longer than the run.
os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch
import transformers

checkpoint, tokens, steps = sys.argv[1:]
model = transformers.AutoModelForCausalLM.from_pretrained(
    checkpoint, dtype=torch.float32, attn_implementation="eager"
).eval()
prompt = torch.tensor([[int(token) for token in tokens.split(",")]])
model.generate(prompt, max_new_tokens=int(steps), do_sample=False, pad_token_id=0)

"""Models of Hugging Face transformers against ports to candle, on the same random weights and tokens, without a map.

Each model is captured by one line of Python while it generates: a prefill and eight decode steps. candle-transformers'
llama and qwen2 (annotated by hand, `examples/decode.rs` of `tests/candle-models`) and `bitnet run` do the same. Then
`bitnet-trace diff` compares, and faults on either side are found where they are.

usage: models.py FOLDER_OF_PROGRAMS
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# transformers compiles a function that unpacks weights of BitNet; that takes longer than all runs together.
os.environ["TORCHDYNAMO_DISABLE"] = "1"

import bitnet_trace
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.bitnet import pack_weights

PROMPT = [1, 17, 33, 3, 60]
# Where an activation lies half way between two int8, the last bit of a sum decides, and everything after it differs: one
# of these prompts has to be without.
PROMPTS = [PROMPT, [5, 200, 99, 42], [7, 64, 128, 3, 11]]
# A prefill and eight decode steps.
STEPS = 9
LAYERS = 2
REL_L2 = "1e-5"
SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "bos_token_id": None,
    "eos_token_id": None,
}

OUTSIDE = ["embeddings", "final_norm", "logits"]
IN_A_LAYER = [
    "attn_norm",
    "q_proj",
    "k_proj",
    "v_proj",
    "q_rope",
    "k_rope",
    "attn_scores_softmax",
    "attn_ctx",
    "o_proj",
    "attn_residual",
    "ffn_norm",
    "gate_proj",
    "up_proj",
    "ffn_act",
    "down_proj",
    "block_out",
]


@dataclass(frozen=True)
class Family:
    """A kind of model, and what of it is compared."""

    name: str
    settings: dict[str, Any]
    # Stages of transformers that the port has no value for, or has in another order of elements (docs/names.md).
    missing: tuple[str, ...] = ()
    # Stages that only this family has.
    more: tuple[str, ...] = ()
    # What is scaled to make a weight of a projection wrong.
    scaled: str = "weight"

    @property
    def stages(self) -> list[tuple[int | None, str]]:
        """The stages that are compared in each step, with their layers."""
        inside = [stage for stage in (*IN_A_LAYER, *self.more) if stage not in self.missing]
        return [(None, stage) for stage in OUTSIDE] + [(layer, stage) for layer in range(LAYERS) for stage in inside]


FAMILIES = [
    # llama.rs has these only inside larger expressions.
    Family("llama", {"tie_word_embeddings": False}, missing=("ffn_norm", "gate_proj", "up_proj")),
    # So has qwen2.rs, and the attention's context is bound while its heads are not merged: a map can transpose it.
    Family("qwen2", {"tie_word_embeddings": True}, missing=("attn_ctx", "ffn_norm", "gate_proj", "ffn_act")),
    Family(
        "bitnet",
        {
            "tie_word_embeddings": True,
            "hidden_act": "relu2",
            "quantization_config": {
                "quant_method": "bitnet",
                "linear_class": "autobitlinear",
                "quantization_mode": "offline",
                "modules_to_not_convert": None,
            },
        },
        more=("attn_sub_norm", "ffn_sub_norm"),
        scaled="weight_scale",
    ),
]
CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "bitnet": "BitNetForCausalLM"}


@torch.no_grad()
def make(family: Family, folder: Path) -> None:
    """Saves a checkpoint of random weights that make every stage matter: norms and biases that do something."""
    settings = {name: value for name, value in family.settings.items() if name != "quantization_config"}
    config = transformers.AutoConfig.for_model(family.name, **SIZES, **settings)
    model = getattr(transformers, CLASSES[family.name])(config).to(torch.float32).eval()
    generator = torch.Generator().manual_seed(1234)
    # In a fixed order: the weights are then the same wherever the script runs.
    for name, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        weight.copy_(1 + 0.2 * noise if "norm" in name else (0.5 if "embed_tokens" in name else 0.3) * noise)
    model.save_pretrained(folder)
    quantization = family.settings.get("quantization_config")
    if quantization is not None:
        pack(folder, quantization)


def pack(folder: Path, quantization: dict[str, Any]) -> None:
    """Makes the projections ternary and packs four weights into a byte, as in published checkpoints of BitNet."""
    weights = load_file(folder / "model.safetensors")
    packed: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if not name.endswith("_proj.weight"):
            packed[name] = weight
            continue
        scale = weight.abs().mean().clamp(min=1e-5)
        packed[name] = pack_weights((weight / scale).round().clamp(-1, 1))
        packed[f"{name}_scale"] = scale.reshape(1)
    save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def scale(source: Path, folder: Path, name: str) -> None:
    """Copies a checkpoint with one tensor scaled by one per cent."""
    folder.mkdir()
    weights = load_file(source / "model.safetensors")
    weights[name] = weights[name] * 1.01
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text((source / "config.json").read_text())


Fault = Callable[[Any], AbstractContextManager[None]]


@torch.no_grad()
def reference(checkpoint: Path, directory: Path, fault: Fault, prompt: list[int] = PROMPT) -> list[int]:
    """Captures what transformers computes; returns the tokens that it chose."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    # Packed weights and their scales keep the checkpoint's type.
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
    settings = {"max_new_tokens": STEPS, "do_sample": False, "pad_token_id": 0}
    with fault(model), bitnet_trace.capture(model, directory, capture="sketch,values", format="jsonl") as recorded:
        ids = model.generate(torch.tensor([prompt]), **settings)
    expect(recorded.lost is None, f"transformers: {recorded.lost}")
    tokens = ids[0, len(prompt) :].tolist()
    expect(len(tokens) == STEPS, f"transformers generated {tokens}")
    names(directory, prompt, tokens)
    return tokens


def names(directory: Path, prompt: list[int], tokens: list[int]) -> None:
    """Checks that the capture annotated these tokens by itself."""
    annotations = json.loads((directory / "run.json").read_text())["annotations"]
    found = [annotations.get(name) for name in ("prompt_tokens", "generated_tokens")]
    expect(found == [prompt, tokens], f"{directory / 'run.json'} names {found}, expected {[prompt, tokens]}")


def healthy(_model: Any) -> AbstractContextManager[None]:
    """No fault."""
    return nullcontext()


@contextmanager
def other_rotation(model: Any) -> Iterator[None]:
    """Rotates with the frequencies of another base, as with a wrong `rope_theta`."""
    rotary = model.model.rotary_emb
    dim = model.config.hidden_size // model.config.num_attention_heads
    theta = 1.1 * model.config.rope_parameters["rope_theta"]
    rotary.inv_freq.copy_(theta ** -(torch.arange(0, dim, 2).float() / dim))
    yield


@contextmanager
def one_wrong_step(model: Any) -> Iterator[None]:
    """Scales what one module returns by one per cent, in step 3 only."""
    calls = Counter()

    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        calls["all"] += 1
        return output * 1.01 if calls["all"] == 4 else output

    handle = model.model.layers[1].mlp.down_proj.register_forward_hook(hook)
    yield
    handle.remove()


def port(  # noqa: PLR0913, PLR0917 - what a run is given
    programs: Path,
    family: Family,
    checkpoint: Path,
    directory: Path,
    forced: Path,
    tokens: list[int],
    prompt: list[int] = PROMPT,
) -> list[int]:
    """Records what the port computes when it decodes the tokens of a trace; returns those that it would have chosen."""
    variables = {"BITNET_TRACE_DIR": str(directory), "BITNET_TRACE_FORMAT": "jsonl"}
    environment = {**os.environ, **variables, "BITNET_TRACE_CAPTURE": "sketch,values"}

    def ids(tokens: list[int]) -> str:
        return ",".join(map(str, tokens))

    if family.name == "bitnet":
        run = ["run", "--model", str(checkpoint), "--tokens", ids(prompt), "--force", str(forced), "--json"]
        output = said([str(programs / "bitnet"), *run], environment)
        return list(json.loads(output)["chosen_tokens"])
    decode = [str(programs / "examples" / "decode"), family.name, str(checkpoint), ids(prompt), ids(tokens[:-1])]
    return [int(token) for token in said(decode, environment).split(",")]


def said(command: list[str], environment: dict[str, str]) -> str:
    """What a program prints."""
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    expect(process.returncode == 0, f"{' '.join(command)}: {process.stderr}{process.stdout}")
    return process.stdout


@dataclass(frozen=True)
class Diff:
    """What `bitnet-trace diff` says."""

    code: int
    content: dict[str, Any]
    screen: str

    def steps(self, *verdicts: str) -> Counter[tuple[int | None, str, str]]:
        """How often each stage has one of these verdicts, by layer and stage; a step counts once."""
        pairs = [pair for pair in self.content["pairs"] if pair["verdict"] in verdicts]
        found = {(pair["layer"], pair["stage"], pair["seq"], pair["output"], pair["call"]) for pair in pairs}
        expect(len(found) == len(pairs), f"two pairs are alike\n{self.screen}")
        return Counter((layer, stage) for layer, stage, *_ in found)

    @property
    def first(self) -> str | None:
        """The name of the first divergence."""
        first = self.content["first"]
        return None if first is None else str(self.content["pairs"][first]["name"])


def diff(programs: Path, family: Family, one: Path, other: Path) -> Diff:
    """Compares two traces. Without `--map`; the stages that the port lacks need `--only-common`."""
    command = [str(programs / "bitnet-trace"), "diff", str(one), str(other), "--rel-l2", REL_L2]
    command += ["--only-common"] if family.missing else []
    runs = [subprocess.run([*command, *more], capture_output=True, text=True, check=False) for more in ([], ["--json"])]
    expect(runs[1].stdout.startswith("{"), f"{' '.join(command)}: {runs[1].stderr}")
    return Diff(runs[0].returncode, json.loads(runs[1].stdout), runs[0].stdout)


def check(programs: Path, family: Family, work: Path) -> None:
    """Compares a family with its port, first as they are, then with faults on either side."""
    checkpoint = work / "checkpoint"
    make(family, checkpoint)
    tokens = reference(checkpoint, work / "reference", healthy)
    chosen = port(programs, family, checkpoint, work / "port", work / "reference", tokens)
    expect(chosen == tokens, f"{family.name}: transformers chose {tokens}, the port would have chosen {chosen}")
    same = diff(programs, family, work / "reference", work / "port")
    expect(same.code == 0 and same.first is None, f"{family.name}: exit code {same.code}\n{same.screen}")
    # All of it was compared: each stage, in each layer, in each step.
    found, wanted = same.steps("identical", "within"), Counter(dict.fromkeys(family.stages, STEPS))
    expect(found == wanted, f"{family.name}: compared {found}, expected {wanted}\n{same.screen}")
    layers = {(layer, stage): STEPS for layer in range(LAYERS) for stage in family.missing}
    alone = same.steps("only-reference"), same.steps("only-trace")
    expect(alone == (layers, {}), f"{family.name}: without a partner: {alone}\n{same.screen}")
    print(
        f"{family.name}: {len(same.content['pairs'])} pairs, needed rel_l2 = {same.content['smallest_tolerance']:.2e}"
    )

    if family.name == "bitnet":
        sweep(programs, checkpoint, work)
    for place, name in [
        ("t0/blk1/q_proj", "layers.1.self_attn.q_proj"),
        ("t0/blk0/down_proj", "layers.0.mlp.down_proj"),
    ]:
        wrong = work / f"scaled-{name}"
        scale(checkpoint, wrong, f"model.{name}.{family.scaled}")
        trace = work / f"port-{name}"
        port(programs, family, wrong, trace, work / "reference", tokens)
        finds(diff(programs, family, work / "reference", trace), place, f"{family.name} with {name} scaled")

    for place, fault in [("t0/blk0/q_rope", other_rotation), ("t3/blk1/down_proj", one_wrong_step)]:
        traces = [work / f"{side}-{fault.__name__}" for side in ("reference", "port")]
        tokens = reference(checkpoint, traces[0], fault)
        port(programs, family, checkpoint, traces[1], traces[0], tokens)
        finds(diff(programs, family, *traces), place, f"{family.name} with {fault.__name__} in transformers")


def in_bfloat16(programs: Path, work: Path) -> None:
    """Compares each flavour of a bfloat16 checkpoint with transformers in float32: both widen the weights exactly."""
    fixtures = Path(__file__).parents[1] / "fixtures" / "hf-bitnet-tiny"
    weights = {"offline": "offline", "online": "online", "bitlinear": "bitlinear", "noquant": "online"}
    for flavour, source in weights.items():
        checkpoint = work / flavour / "checkpoint"
        checkpoint.mkdir(parents=True)
        for folder, file in [(flavour, "config.json"), (source, "model.safetensors")]:
            (checkpoint / file).write_bytes((fixtures / f"{folder}_bfloat16" / file).read_bytes())
        needed: list[float] = []
        for prompt in PROMPTS:
            needed.append(of_prompt(programs, checkpoint, work / flavour / str(prompt[0]), prompt))
            if needed[-1] <= float(REL_L2):
                break
        expect(needed[-1] <= float(REL_L2), f"bitnet {flavour} in bfloat16: needed rel_l2 = {needed}")
        print(f"bitnet {flavour} in bfloat16: needed rel_l2 = {needed[-1]:.2e}, prompt {len(needed)}")


def of_prompt(programs: Path, checkpoint: Path, folder: Path, prompt: list[int]) -> float:
    """The largest error of all stages, over prefill and decode."""
    family = FAMILIES[-1]
    folder.mkdir()
    tokens = reference(checkpoint, folder / "reference", healthy, prompt)
    port(programs, family, checkpoint, folder / "port", folder / "reference", tokens, prompt)
    compared = diff(programs, family, folder / "reference", folder / "port")
    found = compared.steps("identical", "within", "diverged")
    wanted = Counter(dict.fromkeys(family.stages, STEPS))
    expect(found == wanted, f"{checkpoint}: compared {found}, expected {wanted}\n{compared.screen}")
    return float(compared.content["smallest_tolerance"])


def sweep(programs: Path, checkpoint: Path, work: Path) -> None:
    """Sweeps two prompts: a program that traces nothing itself, and `bitnet run` with the tokens of its trace."""
    reference = [sys.executable, "-m", "bitnet_trace", str(Path(__file__).with_name("generate.py"))]
    sides = {
        "reference": [*reference, str(checkpoint), "{tokens}", "{steps}"],
        "trace": [str(programs / "bitnet"), "run", "--model", str(checkpoint), "--tokens", "{tokens}", "--force"],
    }
    sides["trace"].append("{reference}")
    prompts = {"short": PROMPT[:2], "long": [*PROMPT, 9, 40, 2]}
    # A list of strings is the same in JSON and in TOML.
    plan = ['force = "reference"', 'timeout = "5m"', f"rel_l2 = {REL_L2}"]
    # `generate` computes the logits of the last token only: comparing them with all takes values.
    env = 'env = { BITNET_TRACE_CAPTURE = "sketch,values" }'
    plan += [f"[{side}]\ncommand = {json.dumps(command)}\n{env}" for side, command in sides.items()]
    plan += [f'[[scenario]]\nname = "{name}"\ntokens = {ids}\nsteps = {STEPS}' for name, ids in prompts.items()]
    path, out = work / "plan.toml", work / "sweep"
    path.write_text("\n".join(plan))
    command = [str(programs / "bitnet-trace"), "sweep", str(path), "-o", str(out), "--json"]
    results = json.loads(said(command, dict(os.environ)))["scenarios"]
    verdicts = {result["name"]: result["verdict"] for result in results}
    expect(verdicts == dict.fromkeys(prompts, "match"), f"the sweep says {results}")
    wanted = Counter(dict.fromkeys(FAMILIES[-1].stages, STEPS))
    for name, prompt in prompts.items():
        annotations = json.loads((out / name / "trace" / "run.json").read_text())["annotations"]
        expect(len(annotations["generated_tokens"]) == STEPS, f"{name}: {annotations}")
        expect(annotations["chosen_tokens"] == annotations["generated_tokens"], f"{name}: {annotations}")
        names(out / name / "reference", prompt, annotations["generated_tokens"])
        compared = diff(programs, FAMILIES[-1], out / name / "reference", out / name / "trace")
        found = compared.steps("identical", "within")
        expect(found == wanted, f"{name}: compared {found}\n{compared.screen}")
    print(f"bitnet: a sweep of {len(prompts)} prompts matches")


def finds(comparison: Diff, place: str, what: str) -> None:
    """Checks that the first divergence is exactly there."""
    found = (comparison.code, comparison.first)
    expect(found == (1, place), f"{what}: exit code and place are {found}, expected 1 and {place}\n{comparison.screen}")
    print(f"{what}: found at {place}")


def expect(condition: bool, message: str) -> None:
    """Ends with the message unless the condition holds."""
    if not condition:
        sys.exit(f"error: {message}")


def main() -> None:
    """Checks every family."""
    programs = Path(sys.argv[1]).resolve()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as work:
            check(programs, family, Path(work))
    with tempfile.TemporaryDirectory() as work:
        in_bfloat16(programs, Path(work))


if __name__ == "__main__":
    main()

"""Measures `bitnet` against llama.cpp on the same machine, in turns, on random weights of one shape.

    python3 -m venv /tmp/llama && /tmp/llama/bin/pip install --upgrade pip setuptools wheel
    CMAKE_BUILD_PARALLEL_LEVEL=2 CMAKE_ARGS='-DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
        -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF -DMTMD_BUILD=OFF' \
        /tmp/llama/bin/pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36
    cargo build --release
    target/release/bitnet synth --shape 2b-4t --format i2_s ours.gguf
    target/release/bitnet synth --shape 2b-4t --format tq2_0 --activation silu theirs.gguf
    /tmp/llama/bin/python bitnet-models/benches/against_llama_cpp.py target/release/bitnet ours.gguf theirs.gguf

llama.cpp cannot read I2_S, and computes SiLU where BitNet has squared ReLU; its fastest ternary type is TQ2_0. Of a prompt both
compute the logits of the last token.
"""

import argparse
import json
import statistics
import subprocess
import time

import llama_cpp


def of_llama(model, prompt, decode):
    """Seconds of the prompt, and the median seconds of a token after it."""
    vocabulary = model.n_vocab()
    ids = [i * 2654435761 % 2**32 % vocabulary for i in range(1, prompt + decode + 1)]
    model.reset()
    begin = time.perf_counter()
    model.eval(ids[:prompt])
    prefill = time.perf_counter() - begin
    steps = []
    for token in ids[prompt:]:
        begin = time.perf_counter()
        model.eval([token])
        steps.append(time.perf_counter() - begin)
    return prefill, statistics.median(steps)


def of_bitnet(program, file, threads, prompt, decode):
    """The report of one round of `bitnet bench`."""
    command = [program, "bench", "--json", "--rounds", "1", "--model", file, "--threads", str(threads)]
    command += ["--prompt-tokens", str(prompt), "--decode", str(decode)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bitnet", help="the program, a release build")
    parser.add_argument("ours", help="the file that `bitnet` runs")
    parser.add_argument("theirs", help="the file that llama.cpp runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    begin = time.perf_counter()
    model = llama_cpp.Llama(
        arguments.theirs,
        n_ctx=512,
        n_batch=512,
        n_threads=arguments.threads,
        n_threads_batch=arguments.threads,
        verbose=False,
    )
    load = time.perf_counter() - begin
    of_llama(model, arguments.prompt, 2)
    rows = []
    for _ in range(arguments.rounds):
        ours = of_bitnet(arguments.bitnet, arguments.ours, arguments.threads, arguments.prompt, arguments.decode)
        rows.append((ours, *of_llama(model, arguments.prompt, arguments.decode)))

    def line(name, unit, pairs):
        ours, theirs = (statistics.median(column) for column in zip(*pairs))
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        print(f"{name:24}{ours:12.4g}{theirs:12.4g} {unit:8}{ratio:8.2f}")

    print(f"llama-cpp-python {llama_cpp.__version__}, {arguments.threads} threads, {arguments.rounds} rounds in turns")
    print(f"{'':24}{'bitnet':>12}{'llama.cpp':>12} {'':8}{'faster':>8}")
    line("load", "s", [(ours["load_seconds"], load) for ours, _, _ in rows])
    line(f"prefill {arguments.prompt} tokens", "s", [(ours["prefill_seconds"], theirs) for ours, theirs, _ in rows])
    line("decode a token", "s", [(ours["decode_seconds_per_token"], theirs) for ours, _, theirs in rows])
    share = statistics.median(ours["bandwidth_share"] for ours, _, _ in rows)
    print(f"bitnet: so many bytes as the weights have are read in {share:.2f} of the time of a token")
    print(f"bitnet: {rows[-1][0]['peak_resident_bytes'] / 1e6:.0f} MB resident at most")


if __name__ == "__main__":
    main()

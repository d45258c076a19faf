#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Peak memory of exporting a model that is larger than what stays in memory: 2 GB of random bfloat16 weights in shards.

    benchmarks/streaming.py [--gigabytes 2] [--formats auto_round fake ...]
    benchmarks/streaming.py --limit 800MB                  # the same again with less memory than the model
    benchmarks/streaming.py --sources                      # from weights without a family, and in blocks of fp8
    benchmarks/streaming.py --limit 600MB --gigabytes 1 --hidden 1024 --iters 2 --memory 1MB --formats auto_round

Prints the largest resident size beside that of one block and of the files. With --limit each export runs a second time
in a control group with so much memory, which counts the cache of the files it reads and writes too. With --iters the
blocks are tuned, and --memory is the recipe's. Needs nothing but Python, free disk and, for --limit, the right to make
a control group or systemd-run.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import sides

VOCAB = 2048


def block_tensors(i, hidden):
    """Of Llama-3.2-1B at a hidden size of 2048."""
    kv, feed_forward = hidden // 4, 4 * hidden
    shapes = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
              "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (feed_forward, hidden),
              "mlp.up_proj": (feed_forward, hidden), "mlp.down_proj": (hidden, feed_forward),
              "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
    return {f"model.layers.{i}.{name}.weight": shape for name, shape in shapes.items()}


def size(shape):
    elements = 2
    for n in shape:
        elements *= n
    return elements


def random_bfloat16(nbytes, norm):
    """Bytes whose exponents are those of 0.008 to 0.06 (norms: ones)."""
    if norm:
        return struct.pack("<H", 0x3F80) * (nbytes // 2)
    data = bytearray(os.urandom(nbytes))
    high = bytes(0x3C | (b & 0x80) | (b & 1) for b in range(256))  # sign and an exponent of two values
    data[1::2] = data[1::2].translate(high)
    return bytes(data)


def write_model(folder, gigabytes, hidden):
    per_block = sum(map(size, block_tensors(0, hidden).values()))
    blocks = max(1, round(gigabytes * 1e9 / per_block))
    tensors = {"model.embed_tokens.weight": (VOCAB, hidden), "model.norm.weight": (hidden,)}
    for i in range(blocks):
        tensors.update(block_tensors(i, hidden))
    header, at = {}, 0
    for name, shape in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size(shape)]}
        at += size(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            file.write(random_bfloat16(size(shape), len(shape) == 1))
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16", "vocab_size": VOCAB,
        "hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": blocks,
        "num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 256, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True, "hidden_act": "silu"}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (sides.EXAMPLE_MODEL / name).exists():
            shutil.copy(sides.EXAMPLE_MODEL / name, folder)
    return blocks, per_block, at


def in_bytes(text):
    for unit, factor in {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}.items():
        if text.endswith(unit):
            return int(float(text[:-len(unit)]) * factor)
    return int(text)


@contextlib.contextmanager
def control_group(limit):
    """What to put before a command so that it and its files' cache have `limit` bytes, and the file that then has the
    most it used, or None."""
    name = f"roundhouse-{os.getpid()}"
    for root, limit_file, peak_file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
                                        ("/sys/fs/cgroup", "memory.max", "memory.peak")):
        group = pathlib.Path(root) / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit_file).write_text(str(limit))
            (group / "cgroup.procs").open("w").close()
        except OSError:
            group.rmdir()
            continue
        try:
            yield ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")], group / peak_file
        finally:
            for _ in range(50):  # its last process may still be leaving
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                time.sleep(0.1)
        return
    if not shutil.which("systemd-run"):
        sys.exit("--limit: no control group can be made here (it takes root, and a writable /sys/fs/cgroup), and there "
                 "is no systemd-run")
    yield ["systemd-run", "--scope", "--quiet", "-p", f"MemoryMax={limit}", "-p", "MemorySwapMax=0"], None


def drop_cache(folder):
    """So that a run finds no file in memory that another one has paid for."""
    for path in filter(pathlib.Path.is_file, folder.iterdir()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def weights_hash(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def read_rate(folder):
    """Bytes a second of reading the weights once, as `dd` does it, none of them in memory before."""
    drop_cache(folder)
    files = sorted(folder.glob("*.safetensors"))
    start = time.monotonic()
    for path in files:
        subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=4M", "status=none"], check=True)
    return sum(path.stat().st_size for path in files) / (time.monotonic() - start)


def sources(arguments, work):
    """The same weights three times: as a family's, as nobody's, and stored in blocks of fp8; each beside reading it."""
    shutil.rmtree(work / "out", ignore_errors=True)
    recipe = work / "fp8.yaml"
    recipe.write_text(json.dumps({"version": 1, "model": str(work / "model"), "output": str(work / "fp8"), "scheme": "FP8_BLOCK",
                                  "tuning": {"iters": 0}, "formats": ["fp8"], "max_shard_size": arguments.shard}))
    subprocess.run([arguments.roundhouse, "run", recipe], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for label, model, more in (("a described family", "model", {}), ("architecture: generic", "model", {"architecture": "generic"}),
                               ("blocks of fp8", "fp8", {})):
        rate = read_rate(work / model)
        _, report, seconds = export(arguments, work, "auto_round", None, label=label, model=work / model, more=more)
        size = sum(path.stat().st_size for path in (work / model).glob("*.safetensors"))
        print(f"{label}: {size / 1e9:.2f} GB at {size / seconds / 1e6:.0f} MB/s, reading alone {rate / 1e6:.0f} MB/s, "
              f"{report['seconds']['quantize']:.1f} s of {seconds:.1f} s for rounding and writing", flush=True)


def export(arguments, work, name, limit, label=None, model=None, more=None):
    """Runs one export and prints a line. Returns a hash of the weights, the report, and the seconds it took."""
    recipe = work / "recipe.yaml"
    text = {"version": 1, "model": str(model or work / "model"), "output": str(work / "out"), "scheme": "W4A16",
            "tuning": {"iters": arguments.iters}, "formats": [name], "device": "cpu",
            "max_shard_size": arguments.shard} | (more or {})
    if arguments.iters:
        text["calibration"] = {"data": str(sides.CALIBRATION), "samples": 16, "seqlen": 64, "batch_size": 2}
    if arguments.memory:
        text["memory"] = arguments.memory
    recipe.write_text(json.dumps(text))
    drop_cache(model or work / "model")
    command = [arguments.roundhouse, "run", recipe, "--overwrite"]
    peak = ""
    start = time.monotonic()
    if limit:
        with control_group(limit) as (prefix, peak_file):
            result = subprocess.run(prefix + command, stdout=subprocess.DEVNULL)
            if peak_file and peak_file.exists():
                peak = f", {int(peak_file.read_text()) / 1e6:.0f} MB with the cache"
    else:
        result = subprocess.run(command, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    label = label or f"{name}, {'at most ' + format(limit / 1e6, '.0f') + ' MB' if limit else 'no limit'}"
    if result.returncode != 0:
        sys.exit(f"{label}: failed with {result.returncode}"
                 f"{' (killed: out of memory?)' if result.returncode in (-9, 137) else ''}")
    report = json.loads((work / "out/roundhouse/report.json").read_text())
    shards = len(list((work / "out").glob("*.safetensors")))
    spill = report["spill"]
    spilled = f", {spill['bytes'] / 1e6:.0f} MB spilled in {spill['seconds']:.1f} s" if spill["bytes"] else ""
    print(f"{label}: peak {report['peak_memory_bytes'] / 1e6:.0f} MB{peak}, {shards} files of "
          f"{report['models'][-1]['bytes'] / 1e9:.2f} GB, {report['seconds']['total']:.0f} s{spilled}", flush=True)
    return weights_hash(work / "out"), report, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=sides.PROGRAM)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--formats", nargs="+", default=["auto_round", "llm_compressor", "fake"])
    parser.add_argument("--shard", default="500MB")
    parser.add_argument("--hidden", type=int, default=2048, help="a multiple of 256")
    parser.add_argument("--iters", type=int, default=0)
    parser.add_argument("--memory", help="the recipe's key")
    parser.add_argument("--sources", action="store_true", help="other forms of the model in place of other formats")
    parser.add_argument("--limit", type=in_bytes, help="memory of a second run of each export: 800MB")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "model").mkdir()
        blocks, per_block, total = write_model(work / "model", arguments.gigabytes, arguments.hidden)
        print(f"model: {total / 1e9:.2f} GB, {blocks} blocks of {per_block / 1e6:.0f} MB")
        if arguments.sources:
            sources(arguments, work)
            return
        for name in arguments.formats:
            unlimited, *_ = export(arguments, work, name, None)
            if arguments.limit and export(arguments, work, name, arguments.limit)[0] != unlimited:
                sys.exit(f"{name}: the weights differ under the limit")


if __name__ == "__main__":
    main()

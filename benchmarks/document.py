#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/performance.md and docs/quality.md, and the same as .html, from the numbers in benchmarks/results/.

    benchmarks/document.py           writes them
    benchmarks/document.py --check   fails when they are not what this program writes
"""

import argparse
import json
import pathlib
import re
import statistics
import sys
from html import escape

import plots

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
DOCS = ROOT / "docs"

STYLE = """
:root { color-scheme: light dark; --text: #1d2733; --soft: #45525f; --line: #d9dee4; --back: #ffffff;
        --ours: #2f7d5b; --theirs: #c0693f; --plain: #8d99a6; }
@media (prefers-color-scheme: dark) { :root { --text: #dde3ea; --soft: #a9b4c0; --line: #38424d; --back: #14191f;
        --ours: #4fae85; --theirs: #d98a61; --plain: #74818e; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: var(--text);
       background: var(--back); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; margin: .6rem 0; } svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.ours { fill: var(--ours); } .theirs { fill: var(--theirs); } .plain { fill: var(--plain); }
.axis { stroke: var(--line); } .line { stroke: var(--ours); stroke-width: 2; fill: none; }
"""


class Document:
    """The same headings, paragraphs and tables as Markdown and as HTML; plots are in the HTML alone."""

    def __init__(self, title):
        self.title = title
        self.markdown = [f"# {title}"]
        self.html = [f"<h1>{escape(title)}</h1>"]

    @staticmethod
    def _html(text):
        text = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))
        return re.sub(r"\[([^]]*)\]\(([^)]*)\)", r"<a href='\2'>\1</a>", text)

    def heading(self, text):
        self.markdown.append(f"## {text}")
        self.html.append(f"<h2>{self._html(text)}</h2>")

    def paragraph(self, text):
        self.markdown.append(text)
        self.html.append(f"<p>{self._html(text)}</p>")

    def table(self, header, rows):
        self.markdown.append("\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]))
        numeric = [bool(rows) and all(re.match(r"[\d.]*( (s|%|MiB|GFLOP/s))?$", row[i]) for row in rows)
                   for i in range(len(header))]

        def line(row, tag):
            return "".join(f"<{tag}{' class=n' * n}>{self._html(cell)}</{tag}>" for cell, n in zip(row, numeric))

        self.html.append("<div class=wide><table><tr>" + line(header, "th") + "</tr>"
                         + "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows) + "</table></div>")

    def plot(self, picture):
        self.html.append(picture)

    def texts(self):
        page = ("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
                f"<title>Roundhouse: {escape(self.title)}</title><style>{STYLE}</style>" + "\n".join(self.html) + "</html>\n")
        name = self.title.lower()
        return {DOCS / f"{name}.md": "\n\n".join(self.markdown) + "\n", DOCS / f"{name}.html": page}


def mib(size):
    return f"{size / 2**20:.0f} MiB"


class Sides:
    """Medians over the rounds of a comparison."""

    def __init__(self, rounds, other="reference"):
        self.rounds, self.other = rounds, other

    def of(self, side, what):
        return statistics.median(one[side][what] for one in self.rounds)

    def ratio(self, what):
        return self.of(self.other, what) / self.of("roundhouse", what)

    def each(self, what):
        return ", ".join(f"{one[self.other][what] / one['roundhouse'][what]:.2f}" for one in self.rounds)

    def rows(self):
        whats = ["seconds", "processor_seconds", "peak_bytes"]
        show = [lambda v: f"{v:.1f} s", lambda v: f"{v:.1f} s", mib]
        return [[name, *(f(self.of(side, what)) for f, what in zip(show, whats))]
                for side, name in ((self.other, "auto-round" if self.other == "reference" else self.other),
                                   ("roundhouse", "Roundhouse"))] + \
               [["ratio", *(f"{self.ratio(what):.2f}" for what in whats)]]


HEADER = ["", "wall time", "processor time", "peak memory"]


class Loop:
    """The block loop beside its matrix products: the fastest of all rounds, in wall time or processor time."""

    PRODUCTS = ("forward", "weight_gradient", "input_gradient")

    def __init__(self, part, what="seconds"):
        self.part = part

        def least(name):
            return min(one[name][what] for one in part["rounds"])

        self.products = {name: least(name) for name in self.PRODUCTS}
        self.product_seconds = sum(self.products.values())
        self.flops = part["flops"]
        self.iteration_flops = sum(self.flops.values())
        self.rate = self.iteration_flops / self.product_seconds
        self.iteration = (least("long_run") - least("short_run")) / part["iterations"]
        self.fraction = self.product_seconds / self.iteration
        self.parts = {name: least(name) for name in ("attention", "block", "qdq", "step", "loss")}

    def shares(self):
        """Where an iteration goes; the two rests are differences, and noise can make them negative."""
        p = self.parts
        rest_of_block = p["block"] - self.product_seconds - p["attention"]
        rest = self.iteration - p["block"] - p["qdq"] - p["step"] - p["loss"]
        names = {"forward": "products of the forward pass", "weight_gradient": "products for the weights' gradients",
                 "input_gradient": "products for the inputs' gradients"}
        return [*((names[name], seconds, "plain") for name, seconds in self.products.items()),
                ("attention, both passes", p["attention"], "ours"),
                ("norms, rotary, activation, sums", rest_of_block, "ours"),
                ("rounding the weights (qdq)", p["qdq"], "ours"), ("sign step", p["step"], "ours"),
                ("loss and its gradient", p["loss"], "ours"),
                ("rest", rest, "ours")]

    def needed_flops(self, tuning):
        """Of the products that a whole run needs: the iterations, and every sample once through each block as it was
        and, but for the last block, as it is quantized."""
        batches = tuning["samples"] / tuning["batch"]
        return tuning["blocks"] * tuning["iters"] * self.iteration_flops + \
            (2 * tuning["blocks"] - 1) * batches * self.flops["forward"]


class Experts:
    """A block with many experts: what it takes over what it cannot do without."""

    NEEDED = {"weights": "weights in bfloat16", "tunables": "tunables", "best": "the best iteration's tunables", "micro_batch": "a unit of samples, both passes",
              "leaf_and_gradient": "an expert's rounded weight and its gradient"}

    def __init__(self, part):
        self.loop = Loop(part["loop"])
        self.bytes = part["loop"]["memory"]
        self.time = self.loop.iteration / (self.loop.product_seconds + self.loop.parts["qdq"])
        self.time_with_attention = self.loop.iteration / (self.loop.product_seconds + self.loop.parts["qdq"] + self.loop.parts["attention"])
        self.needed_bytes = sum(self.bytes[name] for name in self.NEEDED)
        self.peak_bytes = self.bytes["peak"] - self.bytes["activations"]
        self.memory = self.peak_bytes / self.needed_bytes
        sides = Sides(part["rounding"], "dense")
        self.rates = {side: part["weights"][side] / sides.of(side, "seconds") for side in ("experts", "dense")}
        self.rate = self.rates["experts"] / self.rates["dense"]
        self.processor_rate = sides.of("dense", "processor_seconds") / sides.of("experts", "processor_seconds")


def verdict(met):
    return "met" if met else "not met"


def loop_row(target, wanted, loop):
    """Products that take longer than the block that needs them are no result: something else took the processors meanwhile."""
    unit, size = ("TFLOP/s", 1e12) if loop.rate > 1e13 else ("GFLOP/s", 1e9)
    # The block alone does more than its products and attention.
    busy = loop.fraction > 1.02 or loop.parts["block"] < 0.98 * (loop.product_seconds + loop.parts["attention"])
    return [target, f"{100 * loop.fraction:.0f} % of {loop.rate / size:.0f} {unit} "
            f"({100 * Loop(loop.part, 'processor_seconds').fraction:.0f} % in processor time)",
            "unclear" if busy else verdict(loop.fraction >= wanted),
            "the machine was busy while the products ran alone: measure again" if busy
            else "" if loop.fraction >= wanted else "the table of an iteration's parts below says where the rest goes"]


def tuning_bound(tuning, loop):
    """Why the ratio of tuning speeds cannot be larger, as text."""
    sides = Sides(tuning["rounds"])
    ours, theirs = sides.of("roundhouse", "seconds"), sides.of("reference", "seconds")
    needed = loop.needed_flops(tuning)
    seconds = needed / loop.rate
    return (f"the matrix products that the run needs are {needed / 1e12:.2f} TFLOP; alone they take {seconds:.0f} s here, at "
            f"{loop.rate / 1e9:.0f} GFLOP/s in {loop.part['type']}. Roundhouse takes {ours:.0f} s, so {100 * seconds / ours:.0f} % of its time "
            f"are these products; of auto-round's {theirs:.0f} s they would be {100 * seconds / theirs:.0f} %. No tuner that needs these products "
            f"can be more than {theirs / seconds:.2f} times as fast as auto-round here")


CPU_TARGETS = {"tuning": ["tuning 2.5 times as fast as auto-round", "half its peak memory", "start to first block under 2 s"],
               "block_loop": ["block loop at 60 % of the machine's matrix product rate"],
               "rounding": ["rounding 10 times as fast as auto-round"],
               "kernels": ["every data type's kernels at memory bandwidth"],
               "journal": ["the journal takes less than 3 % of a run"],
               "experts": ["a block with 128 experts in 1.3 times its products and the rounding of its weights", "in 1.2 times the memory that it needs",
                           "its rounding at a dense block's rate"]}


def cpu_targets(parts):
    """[[target, measured, met, why not]]"""
    rows = [["; ".join(targets), "not measured", "", f"`all.py --parts {part}` measures it"]
            for part, targets in CPU_TARGETS.items() if part not in parts]
    tuning, loop = parts.get("tuning"), Loop(parts["block_loop"]) if "block_loop" in parts else None
    if tuning:
        sides = Sides(tuning["rounds"])
        ratio, met = sides.ratio("seconds"), sides.ratio("seconds") >= 2.5
        rows.append(["tuning 2.5 times as fast as auto-round, aim 3", f"{ratio:.2f} times (rounds: {sides.each('seconds')}), "
                     f"{sides.ratio('processor_seconds'):.2f} in processor time", verdict(met),
                     "" if met or not loop else tuning_bound(tuning, loop)])
    if loop:
        rows.append(loop_row("block loop at 60 % of the machine's matrix product rate", 0.6, loop))
    if "rounding" in parts:
        for kind, other in (("plain", "reference"), ("searched", "reference"), ("gguf", "llama.cpp")):
            if kind not in parts["rounding"]:
                rows.append(["rounding to GGUF beside llama.cpp", "not measured", "", "no llama-cpp-python was given (`--llama-cpp`)"])
                continue
            sides = Sides(parts["rounding"][kind], other)
            ratio = sides.ratio("seconds")
            ours, theirs = (sides.of(side, "seconds") for side in ("roundhouse", other))
            start = statistics.median(one["roundhouse"]["block_starts"][0] for one in sides.rounds)
            end = statistics.median(one["roundhouse"]["block_starts"][-1] for one in sides.rounds)
            if kind == "gguf":
                rows.append(["rounding to GGUF Q4_0 as fast as llama.cpp", f"{ratio:.2f} times", verdict(ratio >= 1),
                             "" if ratio >= 1 else f"of our {ours:.1f} s, {start:.1f} s are over before the first block and {ours - end:.1f} s come after the start "
                             f"of the last one: the file gets digests (`SHA256SUMS`), is read back and compared, which llama.cpp does not do in its {theirs:.1f} s"])
                continue
            rows.append([f"{kind} rounding 10 times as fast as auto-round", f"{ratio:.1f} times", verdict(ratio >= 10),
                         "" if ratio >= 10 else f"of our {ours:.1f} s, {start:.1f} s are over before the first block and {ours - end:.1f} s come "
                         f"after the start of the last one (which is rounded and written, and then the output is read back and compared); "
                         f"auto-round takes {theirs:.1f} s"])
    if tuning:
        sides = Sides(tuning["rounds"])
        ratio = sides.ratio("peak_bytes")
        rows.append(["peak memory of tuning at most half of auto-round's", f"1 / {ratio:.2f}", verdict(ratio >= 2),
                     "" if ratio >= 2 else f"{mib(sides.of('roundhouse', 'peak_bytes'))} beside {mib(sides.of('reference', 'peak_bytes'))}"])
        start, theirs = (statistics.median(one[side]["block_starts"][0] for one in tuning["rounds"])
                         for side in ("roundhouse", "reference"))
        rows.append(["start to first block under 2 s", f"{start:.1f} s (auto-round {theirs:.1f} s)", verdict(start < 2), ""])
    if "sources" in parts:
        _, plain, fp8 = parts["sources"]["rows"]
        reading = fp8["bytes"] / fp8["reading"]
        rows.append(["a source in blocks of fp8 rounds at the speed of reading it", f"{fp8['seconds']:.1f} s, of which `dd` takes {reading:.1f} s",
                     verdict(fp8["seconds"] <= 1.25 * reading),
                     f"its weights are rounded, packed and read back like those of the same checkpoint in bfloat16, which takes {plain['seconds']:.1f} s: "
                     f"decoding adds {fp8['seconds'] - plain['seconds']:.1f} s"])
    if "journal" in parts:
        part = parts["journal"]
        share = journal_cost(part, "seconds") / part["interval"]
        rows.append(["the journal takes less than 3 % of a run", f"{100 * share:.1f} % with records of {part['record_bytes'] / 1e6:.0f} MB",
                     verdict(share < 0.03), "" if share < 0.03 else "then records are written less often than one in 30 s"])
    if "experts" in parts:
        experts = Experts(parts["experts"])
        rows.append(["an iteration over 128 experts in 1.3 times its products and the rounding of its weights",
                     f"{experts.time:.2f} times; {experts.time_with_attention:.2f} times where attention counts, too",
                     verdict(experts.time <= 1.3), "" if experts.time <= 1.3 else "attention alone is "
                     f"{100 * experts.loop.parts['attention'] / experts.loop.iteration:.0f} % of it; the section on experts says where the rest goes"])
        rows.append(["memory of a block with 128 experts at most 1.2 times what it needs", f"{experts.memory:.2f} times", verdict(experts.memory <= 1.2),
                     "" if experts.memory <= 1.2 else "the section on experts says what else there is"])
        rows.append(["rounding 128 experts at the rate of a dense block", f"{experts.rate:.2f} times", verdict(experts.rate >= 0.95),
                     "" if experts.rate >= 0.95 else f"in processor time {experts.processor_rate:.2f} times"])
    if "kernels" in parts:
        kernels = parts["kernels"]
        copy = kernels["memcpy"]
        tuned = [row for row in kernels["presets"] if "step" in row]
        forward, step = ([row[what] / copy for row in tuned] for what in ("forward", "step"))
        met = min(forward + step) >= 0.8
        slow = [row["cached"][what] / row[what] for row in tuned for what in ("forward", "step") if row[what] < 0.8 * copy]
        rows.append(["every data type's kernels at memory bandwidth (80 % of memcpy)",
                     f"forward {100 * min(forward):.0f} to {100 * max(forward):.0f} %, step {100 * min(step):.0f} to {100 * max(step):.0f} %",
                     verdict(met), "" if met else
                     f"arithmetic, not memory, bounds the {len(slow)} of {2 * len(tuned)} below: on weights in the cache they run at {statistics.median(slow):.2f} times "
                     f"their speed (median), memcpy at {kernels['memcpy_cached'] / copy:.1f} times"
                     + (f"; both together take {100 * (loop.parts['qdq'] + loop.parts['step']) / loop.iteration:.1f} % of an iteration with W4A16" if loop else "")])
    return rows


def cuda_targets(parts):
    targets = ["block loop at 70 % of the GPU's matrix product rate (Llama-3.1-8B's shape, batch 8 x 2048)",
               "32 such blocks, 200 iterations, in about 4 minutes", "device memory at most auto-round's"]
    if not parts:
        return [[target, "not measured", "", "no GPU was at hand; `all.py --device cuda` measures it"] for target in targets]
    rows = []
    loop = Loop(parts["block_loop"]) if "block_loop" in parts else None
    if loop:
        rows.append(loop_row(targets[0], 0.7, loop))
    if "tuning" in parts:
        tuning, sides = parts["tuning"], Sides(parts["tuning"]["rounds"])
        starts = [one["roundhouse"]["block_starts"] for one in tuning["rounds"]]
        minutes = 32 * statistics.median(b - a for each in starts for a, b in zip(each, each[1:])) / 60
        rows.append([targets[1], f"{minutes:.1f} minutes from {tuning['blocks']} blocks", verdict(minutes <= 4.5),
                     "" if minutes <= 4.5 or not loop else tuning_bound(tuning, loop)])
        ours, theirs = (sides.of(side, "device_peak_bytes") for side in ("roundhouse", "reference"))
        rows.append([targets[2], f"{mib(ours)}, auto-round {mib(theirs)}", verdict(ours <= theirs), ""])
    return rows


def describe(machine):
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    core = machine["threads_of_first_core"]
    return (f"{machine['cpu']} (family/model {machine['cpu_family_model']}), {machine['processors']} processors"
            + (f", the first core's threads: {core}" if core else "")
            + f"; {', '.join(machine['instruction_sets'])}; {machine['memory_bytes'] / 2**30:.0f} GiB; "
            + (f"GPU {machine['gpu']}" if machine["gpu"] else "no GPU") + f". {machine['system']}, Python {machine['python']}, {versions}.")


def tuning_section(out, part):
    compiled = "with" if part["torch_compile"] else "without"
    out.heading(f"Tuning beside auto-round ({part['device']})")
    out.paragraph(
        f"`speed.py`: a random model with the block shapes of {part['shape']}, {part['blocks']} blocks, W4A16, {part['iters']} iterations, "
        f"{part['samples']} samples of {part['seqlen']} tokens, batch {part['batch']}, from the start of the process to the checkpoint on disk; auto-round "
        f"{compiled} torch.compile. Medians of {len(part['rounds'])} round{'s' if len(part['rounds']) > 1 else ''} in turns.")
    sides = Sides(part["rounds"])
    out.table(HEADER, sides.rows())
    out.plot(plots.bars("Tuning: processor time", [(f"{name} {n + 1}", one[side]["processor_seconds"], kind) for n, one in enumerate(part["rounds"])
                        for side, name, kind in (("reference", "auto-round, round", "theirs"), ("roundhouse", "Roundhouse, round", "ours"))],
                        "s of processors"))
    out.plot(plots.bars("Tuning: peak memory", [("auto-round", sides.of("reference", "peak_bytes") / 2**20, "theirs"),
                                                ("Roundhouse", sides.of("roundhouse", "peak_bytes") / 2**20, "ours")], "MiB", 0))


def loop_section(out, part):
    loop = Loop(part)
    flops = loop.flops
    out.heading(f"Block loop beside bare matrix products ({part['device']})")
    out.paragraph(
        f"`block_loop_bench`: the tuning of one block of {part['shape']}, {part['scheme']}, batch {part['batch']} x {part['seqlen']} tokens in {part['type']}, "
        f"{part['threads']} threads. Counted are the products of the linear layers, 2 x tokens x weights each: forward ({flops['forward'] / 1e9:.0f} GFLOP) and "
        f"the gradient of every weight (as many), the gradient of inputs ({flops['input_gradient'] / 1e9:.0f} GFLOP) except for q, k and v, which read the "
        f"block's own input; attention and everything else counts as no work. An iteration takes {loop.iteration:.3f} s, its products alone "
        f"{loop.product_seconds:.3f} s at {loop.rate / 1e9:.0f} GFLOP/s: the loop runs at {100 * loop.fraction:.0f} % of the machine's rate for the same products, "
        f"{loop.iteration_flops / loop.iteration / 1e9:.0f} GFLOP/s. The fastest of {len(part['rounds'])} rounds; an iteration is the difference of two runs, and the "
        "two rests are differences.")
    if "one_thread" in part:
        one = Loop(part["one_thread"])
        out.paragraph(f"With one thread the same products reach {one.rate / 1e9:.0f} GFLOP/s, so {part['threads']} threads give {loop.rate / one.rate:.2f} times as much.")
    out.table(["part of an iteration", "seconds", "share"],
              [[name, f"{seconds:.4f}", f"{100 * seconds / loop.iteration:.1f} %"] for name, seconds, _ in loop.shares()])
    out.plot(plots.bars("Parts of an iteration", [(name, max(0, 1000 * seconds), kind) for name, seconds, kind in loop.shares()], "ms"))


def experts_section(out, part):
    experts, loop = Experts(part), part["loop"]
    out.heading("A block with many experts")
    out.paragraph(
        f"`experts.py`: a random block of Qwen3-30B-A3B's shape (128 experts of 3 x 768 x 2048, 8 for a token; attention of 32 heads of 128), {loop['scheme']}, "
        f"batch {loop['batch']} x {loop['seqlen']} tokens in {loop['type']}, {loop['threads']} threads. An iteration takes {experts.loop.iteration:.2f} s: "
        f"{experts.time:.2f} times its products, unit by unit, with the tokens that each expert gets, and the rounding of all weights (qdq), or "
        f"{experts.time_with_attention:.2f} times these and attention as libtorch computes it.")
    out.table(["part of an iteration", "seconds", "share"],
              [[name, f"{seconds:.3f}", f"{100 * seconds / experts.loop.iteration:.1f} %"] for name, seconds, _ in experts.loop.shares()])
    out.paragraph(
        f"The largest resident memory, without the calibration activations ({mib(experts.bytes['activations'])}) and what the process has before, is "
        f"{mib(experts.peak_bytes)}: {experts.memory:.2f} times the {mib(experts.needed_bytes)} below. The rest is the rounded weights of all experts, which each unit "
        "reads (the weights themselves are mapped, and let go of when they were read), and what gives the weights' gradients: for each unit its tokens and the gradients of their sums, "
        "and for each expert what lies between its products. A gradient is multiplied and summed over the units when its step is due, one weight at a time, or when "
        "what is kept would take more than the sums.")
    out.table(["needed", "memory"], [[name, mib(experts.bytes[key])] for key, name in experts.NEEDED.items()])
    out.paragraph(
        f"Rounding from the start of the process to the checkpoint, W4A16: {experts.rates['experts'] / 1e6:.0f} MB/s, and {experts.rates['dense'] / 1e6:.0f} MB/s of a dense "
        f"block of the same bytes (medians of {len(part['rounding'])} rounds); {experts.processor_rate:.2f} times as fast in processor time.")
    calls = loop["rounds"][-1]["stack_calls"]

    def gain(*keys):  # of a batch, over the three stacks of the block, in processor time
        return 3 * sum(calls["one_by_one"][key]["processor_seconds"] - calls["at_once"][key]["processor_seconds"] for key in keys)

    rounding = Sides(part["rounding"], "dense").of("experts", "processor_seconds")
    iteration = Loop(loop, "processor_seconds").iteration
    out.paragraph(
        f"The host gives a data type the experts one by one, though one whose rows are independent could take all {calls['experts']} matrices of a stack "
        f"({mib(calls['bytes'])}) as one. In processor time that would change {100 * gain('rounding') / rounding:.1f} % of rounding the block and "
        f"{100 * gain('qdq', 'step') / iteration:.1f} % of an iteration, and take a copy of the weights:")
    out.table(["processor time", "one by one", "at once"],
              [[what, *(f"{1000 * calls[side][key]['processor_seconds']:.0f} ms" for side in ("one_by_one", "at_once"))]
               for key, what in (("rounding", "plain rounding, to codes"), ("qdq", "tuning: rounded weights"), ("step", "tuning: sign step"))])


def rounding_section(out, part):
    out.heading("Rounding of whole checkpoints")
    out.paragraph(f"`rounding.py`: a random model of Qwen2.5-0.5B's block shapes, from the start of the process to the checkpoint, which Roundhouse also reads "
                  f"back and compares. Plain: W4A16, {part['blocks']} blocks, auto-round in its model-free mode. Searched: {part['searched_blocks']} block, "
                  "auto-round's default for 0 iterations.")
    pictures = []
    for kind, other in (("plain", "reference"), ("searched", "reference"), ("gguf", "llama.cpp")):
        if kind not in part:
            out.paragraph("llama.cpp was not at hand: GGUF is not compared here.")
            continue
        if kind == "gguf":
            out.paragraph(f"GGUF Q4_0, {part['blocks']} blocks, beside `llama_model_quantize` of llama.cpp, whose checkpoint is a bfloat16 GGUF:")
        sides = Sides(part[kind], other)
        out.table([kind, *HEADER[1:]], sides.rows())
        pictures += [(f"{kind}, {'auto-round' if other == 'reference' else other}", sides.of(other, "seconds"), "theirs"),
                     (f"{kind}, Roundhouse", sides.of("roundhouse", "seconds"), "ours")]
    out.plot(plots.bars("Rounding: wall time", pictures, "s"))


def kernels_section(out, part):
    copy = part["memcpy"]
    out.heading("Kernels")
    out.paragraph(f"`bandwidth`: GB/s that must be read and written for a 4096 x 4096 bfloat16 weight, {part['threads']} threads; memcpy {copy:.1f}. Rounding "
                  "counts the weight once in and once out, and includes finding the groups' ranges, which reads it again. In brackets the same for "
                  f"64 rows, which stay in the processor's cache (memcpy {part['memcpy_cached']:.1f}): what is no faster there is bound by its arithmetic.")
    columns = ["rounding", "encode", "forward", "step"]
    out.table(["preset", *columns], [[row["preset"], *(f"{row[c]:.1f} ({row['cached'][c]:.1f})" if c in row else "" for c in columns)]
                                     for row in part["presets"]])
    out.plot(plots.bars("Kernels, part of memcpy's rate",
                        [(f"{row['preset']} {what}", 100 * row[what] / copy, kind) for row in part["presets"]
                         for what, kind in (("forward", "ours"), ("step", "plain")) if what in row], "% of memcpy", 0))


def scaling_section(out, part):
    base = part["base"]
    out.heading("Scaling")
    out.paragraph(f"`scaling.py`: whole runs, W4A16, {part['iters']} iterations, {part['samples']} samples, batch {part['batch']}, Qwen2.5-0.5B's proportions; where not varied "
                  f"{base['blocks']} blocks, hidden size {base['hidden']}, {base['seqlen']} tokens, {base['threads']} threads.")
    out.table(["varied", "value", "wall time", "processor time", "peak memory"],
              [[row["axis"], str(row["value"]), f"{row['seconds']:.1f} s", f"{row['processor_seconds']:.1f} s", mib(row["peak_bytes"])]
               for row in part["rows"]])
    for axis in dict.fromkeys(row["axis"] for row in part["rows"]):
        rows = [row for row in part["rows"] if row["axis"] == axis]
        out.plot(plots.lines(f"Scaling with {axis}", [row["value"] for row in rows], axis,
                             [("s of wall time", [row["seconds"] for row in rows]),
                              ("s of processors", [row["processor_seconds"] for row in rows]),
                              ("MiB", [row["peak_bytes"] / 2**20 for row in rows])]))


def journal_cost(part, what):
    """Seconds that a record adds, between medians."""
    def median(records):
        return statistics.median(one[records][what] for one in part["rounds"])
    return (median("every block") - median("none")) / part["blocks"]


def journal_section(out, part):
    out.heading("The journal")
    out.paragraph(f"`journal.py`: the same run without records, with one of {part['record_bytes'] / 1e6:.0f} MB after each block, and with one in {part['interval']} s "
                  f"at most, as runs have them; W4A16, {part['blocks']} blocks of {part['shape']}, {part['iters']} iterations, {part['samples']} samples of "
                  f"{part['seqlen']} tokens, medians of {len(part['rounds'])} rounds. A record adds {journal_cost(part, 'seconds'):.2f} s, and "
                  + (f"{cost:.2f} s of processors" if (cost := journal_cost(part, "processor_seconds")) > 0 else "no processor time that shows")
                  + ", much of it beside the next block.")
    out.table(["records", "wall time", "processor time", "peak memory"],
              [[name, *(show(statistics.median(one[name][what] for one in part["rounds"])) for what, show in
                        (("seconds", lambda v: f"{v:.1f} s"), ("processor_seconds", lambda v: f"{v:.1f} s"), ("peak_bytes", mib)))]
               for name in part["rounds"][0]])


def export_section(out, part):
    out.heading("Memory of an export")
    out.paragraph(f"`streaming.py {' '.join(part['arguments'])}`: random bfloat16 weights ({part['model']}), W4A16 by plain rounding, read back and checked at the end; the "
                  "largest resident memory of the process, mapped files included.")
    out.table(["format", "peak memory", "files", "seconds"],
              [[row["what"], mib(row["peak_bytes"]), f"{row['files_bytes'] / 1e9:.2f} GB", str(row["seconds"])] for row in part["rows"]])
    out.plot(plots.bars("Peak memory of an export", [(row["what"], row["peak_bytes"] / 2**20, "ours") for row in part["rows"]], "MiB", 0))


def sources_section(out, part):
    out.heading("Forms of a source")
    out.paragraph(f"`streaming.py {' '.join(part['arguments'])}`: the same weights ({part['model']}), W4A16 by plain rounding into auto_round, read back and "
                  "checked at the end; as a described family's, without a descriptor, and stored in blocks of fp8. The rates are the source's bytes over the "
                  "time of the whole run, and over that of `dd` alone; nothing is in the page cache before.")
    out.table(["source", "bytes", "seconds", "rate", "dd", "peak memory"],
              [[row["what"], f"{row['bytes'] / 1e9:.2f} GB", f"{row['seconds']:.1f} s", f"{row['rate'] / 1e6:.0f} MB/s",
                f"{row['reading'] / 1e6:.0f} MB/s", mib(row["peak_bytes"])] for row in part["rows"]])


SECTIONS = {"tuning": tuning_section, "block_loop": loop_section, "rounding": rounding_section,
            "kernels": kernels_section, "scaling": scaling_section, "journal": journal_section, "export": export_section, "sources": sources_section, "experts": experts_section}

def waiting_section(out):
    waiting = json.loads((RESULTS / "waiting.json").read_text())
    out.heading("Threads that wait")
    out.paragraph("OpenMP's threads wait for work by spinning or by sleeping. Sleeping costs small models much, since every operator wakes threads; spinning "
                  "costs as soon as other programs want the processors. The executable sets `GOMP_SPINCOUNT=3000` (some 0.1 ms), unless that or "
                  f"`OMP_WAIT_POLICY` is set. Seconds of quantizing in `{waiting['command']}`, 2 processors, measured by hand on {waiting['date']}; busy: beside "
                  f"{waiting['busy_processes']} programs that compute all the time.")
    out.table(["spins", "quiet", "busy"], [[str(row["spins"]), f"{row['quiet']:.1f} s", f"{row['busy']:.1f} s"] for row in waiting["rows"]])


def counts_section(out):
    counts = json.loads((RESULTS / "cuda_counts.json").read_text())
    rate = 17e12  # 132 processors x 128 lanes x 1.7 GHz, 60 % of it
    out.heading("CUDA kernels, counted")
    out.paragraph("No clock was read here. `cmake --build build --target cuda_counts` runs nvcc's PTX on a processor and counts what each warp issues for one "
                  "weight in bfloat16, forward and sign step, gradient and result in bfloat16: 32 lanes for each instruction, also where only some of them have work. "
                  "`tests/cuda_emulation/ptx/counts.py` has how many machine instructions stand for one of PTX, and the limits. The last column is arithmetic: "
                  "milliseconds for the 218 M weights of a Llama-3.1-8B block, or for its activations of 8 x 2048 tokens, at 17 T lane-instructions a second, 60 % of what an H100 issues; its memory takes "
                  "0.6 ms for the bytes of a weight's forward pass and 0.9 ms for those of its step, 0.5 and 0.8 ms for those of silu times up and its gradients.")
    columns = ["memory", "floats", "division", "integers", "conversions", "shuffles", "control"]
    out.table(["scheme or part", "pass", "instructions an element", "limit", *columns, "ms"],
              [[row["scheme"], row["pass"], f"{row['total']:.1f}", str(row["limit"] or ""), *(f"{row[c]:.1f}" for c in columns),
                f"{1000 * row['total'] * row['elements'] / rate:.2f}"] for row in counts["rows"]])
    out.paragraph("Kernels with local memory: " + (", ".join(f"`{name}`" for name in counts["kernels_with_local_memory"]) or "none") + ".")
    out.plot(plots.bars("CUDA kernels: instructions a weight", [(f"{row['scheme']}, {row['pass']}", row["total"], "ours" if row["pass"] == "forward" else "plain")
                                                                for row in counts["rows"]], "", 0))


def tuned_section(out, quality):
    out.heading("Tuned beside auto-round")
    originals = ", ".join(f"{model} {perplexity:.3f}" for model, perplexity in quality["originals"].items())
    out.paragraph(f"`quality.py`, which has the data and iterations of each model (perplexities of the originals: {originals}); means over the seeds that both have, "
                  "and how far apart these are. Both are scored by `roundhouse eval` on held-out texts of at most 512 tokens. `signround2` is auto-round's `enable_alg_ext`.")
    out.paragraph("Processor seconds are of whole programs, on a machine that did other work meanwhile, auto-round with one thread; not all runs kept them. "
                  "The machine had AVX512-BF16, but for seeds 45 to 49 and seed 44 of gemma3 at 4 bits, which had AVX2: there our blocks are tuned in float32. "
                  "Those of 45 to 49 were run because with seeds 42 to 44 alone our perplexity was behind: that of tinystories-656k at 4 bits, 22.87 to 22.85, where the order "
                  "is no firmer than that; and that of stories260K at 3 bits, 4.373 to 4.368, which stays behind (of these five 4.372 to 4.352) while its divergence is ahead.")
    out.paragraph("Learning rates: auto-round's is its own, 1 / iterations, where the column is empty. For smollm2 it is the best for it in [learning rates](#learning-rates) (of 0.005 and 0.01 at 3 bits, "
                  "nearly equal there, the one that does better here), where ours takes what `auto` says. For gemma3 no rate was looked for, on either side: auto-round has those "
                  "that are best for it with smollm2, ours what `auto` says. More settings of ours were tried than of auto-round's: its `lr` alone.")
    out.paragraph("Choices: tinystories-656k and stories260K are scored on the texts by which "
                  "defaults were chosen, smollm2 and gemma3 on others. One choice was not blind to these: with our first rate for 2 bits, 0.01, seed 42 had a divergence of 1.1761 and a perplexity of 118.85 "
                  "here, level with auto-round's 1.1755 and 118.39; 0.014 was tried because of that, and taken for being no worse on the texts for choices (1.2103 after 1.2119), a difference "
                  "smaller than that of seeds. So the lead of smollm2 at 2 bits is the least certain one; gemma3 was measured after all of that, and nothing was changed since.")
    out.paragraph("The MLPs of stories260K stay as they are on both sides: auto-round leaves layers whose sizes are no multiples of 32, and theirs is 172.")
    runs = {}  # by what is the same on both sides: ours, and auto-round's by its rate
    for run in quality["runs"]:
        both = runs.setdefault(tuple(run[key] for key in ("model", "scheme", "algorithm", "iters")), ({}, {}))
        (both[0] if run["side"] == "roundhouse" else both[1].setdefault(run.get("lr"), {}))[run["seed"]] = run
    pairs = [(key, rate, {"roundhouse": ours, "reference": of_rate}) for key, (ours, theirs) in runs.items() for rate, of_rate in theirs.items()]
    rows = []
    for key, rate, sides in sorted(pairs, key=lambda item: (list(quality["originals"]).index(item[0][0]), item[0][1:3], item[0][3], item[1] or 0)):
        seeds = set.intersection(*(set(side) for side in sides.values()))

        def cell(side, what, digits):
            if side not in sides or not seeds:
                return ""
            values = [sides[side][seed][what] for seed in seeds if what in sides[side][seed]]
            if not values:
                return ""
            apart = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 and digits else ""
            return f"{statistics.mean(values):.{digits}f}{apart}"

        def cells(what, digits):
            return [cell("reference", what, digits), cell("roundhouse", what, digits)]

        rows.append([*key[:3], str(key[3]), str(rate or ""), str(len(seeds)), *cells("perplexity", 2), *cells("kld", 4), *cells("processor_seconds", 0)])
    out.table(["model", "scheme", "algorithm", "iterations", "auto-round's `lr`", "seeds", "perplexity, auto-round", "perplexity, ours", "KLD, auto-round", "KLD, ours",
               "processor seconds, auto-round", "processor seconds, ours"], rows)
    curves = {}  # by scheme, of the runs whose processor time is known
    for run in sorted(quality["runs"], key=lambda run: run["iters"]):
        if run["model"] == "tinystories-656k" and run["algorithm"] == "signround2" and run["seed"] == 42 and "processor_seconds" in run:
            curves.setdefault(run["scheme"], {}).setdefault(run["side"], []).append((run["processor_seconds"], run["perplexity"], str(run["iters"])))
    out.paragraph("tinystories-656k with seed 42 and several numbers of iterations:")
    for scheme, sides in curves.items():
        if len(sides) < 2:
            continue
        out.plot(plots.curves(f"Perplexity of tinystories-656k at {scheme} against processor time",
                              {"auto-round": ("theirs", sides["reference"]), "Roundhouse": ("ours", sides["roundhouse"])},
                              "processor seconds of the whole program", f"perplexity, {scheme}; at each point its iterations"))
        out.table(["scheme", "side", "iterations", "perplexity", "processor seconds"],
                  [[scheme, {"reference": "auto-round"}.get(side, "Roundhouse"), words, f"{perplexity:.2f}", f"{seconds:.0f}"]
                   for side, points in sides.items() for seconds, perplexity, words in points])


def time_section(out, times):
    out.paragraph(f"Time of whole programs, each with its own number of threads, on a machine that did nothing else ({times['processor']}), one seed:")
    sides = {}
    for run in times["runs"]:
        sides.setdefault((run["model"], run["scheme"], run["algorithm"], str(run["iters"])), {})[run["side"]] = run
    out.table(["model", "scheme", "algorithm", "iterations", "seconds, auto-round", "seconds, ours", "processor seconds, auto-round", "processor seconds, ours"],
              [[*key, *(f"{of[side][what]:.0f}" for what in ("seconds", "processor_seconds") for side in ("reference", "roundhouse"))] for key, of in sides.items()])


def ablations_section(out, runs):
    out.heading("What the parts of signround2 give")
    seeds = sorted({run["seed"] for run in runs})
    out.paragraph(f"`ablations.py`: the same model, data and measures, {runs[0]['scheme']}, 200 iterations, one setting changed; seeds {', '.join(map(str, seeds))}. "
                  "Seed 42 was measured with AVX512-BF16, the others with AVX2, where blocks are tuned in float32. A seed's perplexities lie up to 1.4 apart, so rows that differ by less than "
                  "half of one show nothing.")
    rows = {}
    for run in runs:
        rows.setdefault(run["row"], []).append(run)
    out.table(["tuning", "perplexity", "KLD", "perplexities"],
              [[row, *(f"{statistics.mean(run[what] for run in of):.{digits}f}" for what, digits in (("perplexity", 3), ("kld", 5))),
                ", ".join(f"{run['perplexity']:.2f}" for run in of)] for row, of in rows.items()])
    out.paragraph("Tried, and not kept, with seed 42: momentum on the gradients (a mean that forgets 0.5, 0.8 or 0.9 of itself): perplexities of 34.80, 35.62 and 35.96, "
                  "where a line and the best epoch gave 34.44. In place of the divergence of the logits (31.99 there) its mean quadratic form at the head's input: 33.48. "
                  "The same divergence for every block, through the blocks behind it: 32.38. Errors of features weighted by the squared gradients of the logits, but for the "
                  "last block: 32.32, and with SmolLM2-135M at 2 bits 140.6 in place of 132.0.")


def learning_rates_section(out, runs):
    def means(key, column, rows):
        cells = {}
        for run in rows:
            cells.setdefault(key(run), {}).setdefault(column(run), []).append(run)
        return {key: {at: ", ".join(f"{statistics.mean(run[what] for run in of):.{digits}f}" for what, digits in (("kld", 4), ("perplexity", 2)))
                      for at, of in columns.items()} for key, columns in cells.items()}

    def table(names, key, column, rows):
        cells = means(key, column, rows)
        columns = sorted({at for of in cells.values() for at in of})
        out.table([*names, *map(str, columns)], [[*map(str, key), *(of.get(at, "") for at in columns)] for key, of in cells.items()])

    out.heading("Learning rates")
    out.paragraph("`learning_rates.py`: models and data of quality.py, `signround2`, one rate after the other: divergence and perplexity, means of the seeds that were run (42; of "
                  "tinystories-656k also 43). What `auto` takes was chosen from these tables, a compromise of both models, so they are scored on other texts than the first table of this "
                  "page where there are such: those of smollm2 (tinystories-656k and stories260K have one held-out text). auto-round's rate for smollm2 was chosen here, too. Its "
                  "`minmax_lr` is its `lr`, as it is by default: whether it would gain by a quarter, as ours does, was not tried.")
    full = {model: max(run["samples"] for run in runs if run["model"] == model) for model in {run["model"] for run in runs}}
    whole = [run for run in runs if run["samples"] == full[run["model"]]]
    side = {"reference": "auto-round", "roundhouse": "ours"}
    out.paragraph("`lr`, with `minmax_lr` the same:")
    table(["model", "side", "scheme", "iterations"], lambda run: (run["model"], side[run["side"]], run["scheme"], run["iters"]), lambda run: run["lr"],
          [run for run in whole if run["minmax_lr"] == run["lr"]])
    out.paragraph("`minmax_lr`, as a share of `lr`:")
    pairs = {(run["model"], run["scheme"], run["iters"], run["lr"]) for run in whole if run["minmax_lr"] < run["lr"]}
    of = lambda run: (run["model"], run["scheme"], run["iters"], run["lr"])
    table(["model", "scheme", "iterations", "`lr`"], of, lambda run: round(run["minmax_lr"] / run["lr"], 4),
          [run for run in whole if of(run) in pairs and run["side"] == "roundhouse"])
    out.paragraph("Is it the number of calibration tokens that makes small rates better? Little: tinystories-656k with fewer samples of 128 tokens, 50 iterations; the best rate "
                  "halves where the tokens are a 32nd.")
    table(["scheme", "samples"], lambda run: (run["scheme"], run["samples"]), lambda run: run["lr"],
          [run for run in sorted(runs, key=lambda run: (run["scheme"], run["samples"]))
           if run["model"] == "tinystories-656k" and run["iters"] == 50 and run["minmax_lr"] == run["lr"] and run["scheme"].startswith("W")])


def search_section(out, results):
    table, bounds = results["errors"], results["bounds of Q3_K"]
    out.heading("Searched rounding beside llama.cpp and auto-round")
    out.paragraph("`search_error.py`: the error of our searched rounding over that of the other, on the same rows; below 1 ours is smaller. The first number: the sum of "
                  "importance * (quantized - weight)^2, importance being 1 where there is none, over llama.cpp's; the second: the sum that llama.cpp's quantizer of the "
                  "type makes smaller, over its own; the third: the first sum over auto-round's. auto-round's K types have scales in float32 there, which no block holds. "
                  "Importance is random for random rows, and that of the calibration texts for those of tinystories-656k (64 rows of 4 layers; 2 for int, mx and nv).")
    sets = list(dict.fromkeys(row["weights"] for row in table))
    cells = {}
    for row in table:
        numbers = [row["over"].get(key) for key in ("llama.cpp plain", "llama.cpp own", "reference plain")]
        cells[row["type"], row["importance"], row["weights"]] = ", ".join("-" if n is None or n != n else f"{n:.3f}" for n in numbers)
    out.table(["type", "importance", *sets],
              [[kind, "yes" if weighs else "", *(cells.get((kind, weighs, of), "") for of in sets)]
               for kind, weighs in dict.fromkeys((row["type"], row["importance"]) for row in table)])
    if bounds:
        out.paragraph("Of q3_k the first two numbers pull apart, and ours is a compromise. How low both can be at once, on some blocks of the same rows, is what "
                      "an exhaustive search gives: every float16 d from 0.6 / 128 to 4 / 93 of the largest weight, with the best integer scale of each group and the nearest codes. "
                      "For these blocks and such a d the larger of the two numbers is no lower than the last column.")
        out.table(["weights", "importance", "blocks", "first number, ours", "second, ours", "least of the larger one"],
                  [[row["weights"], "yes" if row["importance"] else "", str(row["blocks"]), *(f"{n:.3f}" for n in row["ours"]), f"{row['bound']:.3f}"]
                   for row in bounds])


def make_quality():
    out = Document("Quality")
    out.paragraph("Written by `benchmarks/document.py` from the numbers in `benchmarks/results/`, which `benchmarks/quality.py`, `benchmarks/ablations.py`, `benchmarks/learning_rates.py` and `benchmarks/search_error.py` measure.")
    for name, section in (("quality", tuned_section), ("quality_time", time_section), ("ablations", ablations_section), ("learning_rates", learning_rates_section), ("search_error", search_section)):
        if (RESULTS / f"{name}.json").exists():
            section(out, json.loads((RESULTS / f"{name}.json").read_text()))
    return out.texts()


def make():
    results = {name: json.loads((RESULTS / f"{name}.json").read_text()) if (RESULTS / f"{name}.json").exists() else {"parts": {}}
               for name in ("cpu", "cuda")}
    out = Document("Performance")
    out.paragraph("Written by `benchmarks/document.py` from the numbers in `benchmarks/results/`, which `benchmarks/all.py` measures: Roundhouse and "
                  "auto-round 0.16.1 in turns on the same model, data and iterations. [performance.html](performance.html) has the plots. Ratios are the reference's "
                  "number over ours. Seconds depend on the machine and on what else it does; processor time depends less on the latter.")
    for result in results.values():
        if result["parts"]:
            parts = result["parts"]
            machines = [result["machine"]]
            for part in parts.values():
                if "machine" in part and part["machine"] not in machines:
                    machines.append(part["machine"])
            for machine in machines:
                out.paragraph("Machine: " + describe(machine) + " Measured "
                              + "; ".join(f"{name} {part['date'][:16].replace('T', ' ')} at {part['commit']}, load {part['load_before']:.1f}"
                                          for name, part in parts.items() if part.get("machine", result["machine"]) == machine) + ".")
    if not results["cuda"]["parts"]:
        out.paragraph("No number here comes from a GPU: none was at hand. The CUDA kernels are compiled where nvcc is found and tested where a device is; "
                      "`benchmarks/all.py --device cuda` measures the rest.")
    out.heading("Targets")
    out.table(["target", "measured", "", "why not"], cpu_targets(results["cpu"]["parts"]) + cuda_targets(results["cuda"]["parts"]))
    for result in results.values():
        for name, section in SECTIONS.items():
            if name in result["parts"]:
                section(out, result["parts"][name])
    counts_section(out)
    waiting_section(out)
    return out.texts() | make_quality()


def write():
    for file, text in make().items():
        file.write_text(text)
        print(file.relative_to(ROOT))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        write()
        return
    for file, text in make().items():
        if not file.exists() or file.read_text() != text:
            sys.exit(f"{file} is not what the numbers in {RESULTS} give: run benchmarks/document.py")


if __name__ == "__main__":
    main()

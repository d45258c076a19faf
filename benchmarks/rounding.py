#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of rounding a whole checkpoint, the reference's and ours, on the same random model.

    build/reference/bin/python benchmarks/rounding.py [--llama-cpp build/engines/llama_cpp/bin/python]

plain: W4A16 as it rounds; the reference in its model-free mode, which never builds the model.
searched: W4A16 with a search for scales by importance; the reference's default for 0 iterations.
gguf: Q4_0 from a bfloat16 checkpoint; llama_model_quantize of llama.cpp, which is all that llama-quantize calls. Left out
without a Python that has llama-cpp-python (`make test-engines` makes one).
"""

import json
import pathlib
import tempfile

import models
import sides

SHAPE = models.SHAPES["qwen2.5-0.5b"]
LLAMA_QUANTIZE = """
import sys, llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), params))
"""


def gguf_contender(work, model, program, llama_cpp):
    source = work / "bf16"
    sides.execute_roundhouse(sides.Run(model, source, "BF16", 0, 8, 128), program, export_format="gguf")
    file = next(source.glob("*.gguf"))
    return lambda n: sides.execute([llama_cpp, "-c", LLAMA_QUANTIZE, file, work / f"llama-{n}.gguf"],
                                   log=work / f"llama-{n}.log")


def measure(program, rounds=2, blocks=12, searched_blocks=1, llama_cpp=None):
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        model = models.make_model(work / "model", SHAPE, blocks)
        small = models.make_model(work / "small", SHAPE, searched_blocks)
        texts = models.write_texts(work / "texts.jsonl", 8, 128)

        def run(what, n, model, scheme="W4A16", search=False):
            return sides.Run(model, work / f"{what}-{n}", scheme, 0, 8, 128, data=texts, search=search)

        result = {"blocks": blocks, "searched_blocks": searched_blocks}
        result["plain"] = sides.alternate(rounds, {
            "reference": lambda n: sides.execute_reference(run("their-plain", n, model), model_free=True),
            "roundhouse": lambda n: sides.execute_roundhouse(run("our-plain", n, model), program)}, "plain ")
        result["searched"] = sides.alternate(1, {
            "reference": lambda n: sides.execute_reference(run("their-search", n, small, search=True)),
            "roundhouse": lambda n: sides.execute_roundhouse(run("our-search", n, small, search=True), program)},
            "searched ")
        if llama_cpp:
            result["gguf"] = sides.alternate(rounds, {
                "llama.cpp": gguf_contender(work, model, program, llama_cpp),
                "roundhouse": lambda n: sides.execute_roundhouse(run("our-gguf", n, model, "GGUF:Q4_0"), program,
                                                                 export_format="gguf")}, "gguf ")
    return result


def main():
    parser = sides.parser(__doc__, rounds=2)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--llama-cpp", type=pathlib.Path, help="a Python with llama-cpp-python")
    options = vars(parser.parse_args())
    program, file = options.pop("roundhouse"), options.pop("json")
    result = measure(program, **options)
    if file:
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

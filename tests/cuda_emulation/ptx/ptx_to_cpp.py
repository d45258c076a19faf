# SPDX-License-Identifier: Apache-2.0
"""Translates the kernels of a PTX file to C++, one function each, instruction by instruction.

usage: ptx_to_cpp.py in.ptx out.cpp

Registers hold bits; ptx_instructions.h has the arithmetic. An instruction that is not known is an error. What ptxas does
to PTX afterwards is not shown, but without it no result may change: every operation here is rounded on its own.
"""

import re
import sys

REGISTERS = {"pred": "bool", "b16": "uint16_t", "b32": "uint32_t", "f32": "uint32_t", "b64": "uint64_t", "f64": "uint64_t"}
TYPES = {
    "s8": "int8_t", "s16": "int16_t", "s32": "int32_t", "s64": "int64_t",
    "u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t",
    "b8": "uint8_t", "b16": "uint16_t", "b32": "uint32_t", "b64": "uint64_t",
    "f32": "uint32_t", "f64": "uint64_t",
}  # fmt: skip
SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
SPECIAL = {
    "%tid.x": "::cuda_emulation::this_thread().index.x",
    "%tid.y": "::cuda_emulation::this_thread().index.y",
    "%tid.z": "::cuda_emulation::this_thread().index.z",
    "%ctaid.x": "::cuda_emulation::this_grid().block.x",
    "%ctaid.y": "::cuda_emulation::this_grid().block.y",
    "%ctaid.z": "::cuda_emulation::this_grid().block.z",
    "%ntid.x": "::cuda_emulation::this_grid().threads.x",
    "%nctaid.x": "::cuda_emulation::this_grid().blocks.x",
    "%laneid": "::cuda_emulation::this_thread().lane()",
}
INTEGER = {"add", "sub", "mul.lo", "mul.hi", "mul.wide", "mad.lo", "div", "rem", "min", "max", "neg", "abs", "and", "or",
           "xor", "not", "shl", "shr"}  # fmt: skip
CONTRACTIBLE = {"add", "sub", "mul"}  # unlike add.rn, ptxas may make an fma of them
REAL = {"add.rn", "sub.rn", "mul.rn", "div.rn", "fma.rn", "fma.rm", "ex2.approx.ftz", "rcp.rn", "sqrt.rn", "min", "max", "neg", "abs",
        "copysign"}
SHUFFLES = {"up": "kUp", "down": "kDown", "bfly": "kButterfly", "idx": "kIndex"}


def size_of(type_name):
    return SIZES[type_name[1:]]


def split_operands(text):
    """At commas outside of braces and brackets."""
    operands, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "{[") - (c in "}]")
        if c == "," and depth == 0:
            operands.append(text[start:i].strip())
            start = i + 1
    if text[start:].strip():
        operands.append(text[start:].strip())
    return operands


class Kernel:
    def __init__(self, number, name, parameters):
        self.number, self.name = number, name
        self.offsets, self.parameters = {}, []
        offset = 0
        for text in parameters:
            match = re.fullmatch(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(\w+)(?:\[(\d+)\])?", text)
            align, type_name, parameter, count = match.groups()
            size = size_of(type_name) * int(count or 1)
            align = int(align or size_of(type_name))
            offset = (offset + align - 1) // align * align
            self.offsets[parameter] = offset
            self.parameters.append((offset, size))
            offset += size
        self.size = offset
        self.shared, self.shared_bytes = {}, 0  # offsets of variables that a block has
        self.declarations, self.body = [], []
        self.contractible = 0
        self.piece = None  # the operations since the last label or jump, and where the body counts them

    def value(self, operand):
        if operand in SPECIAL:
            return SPECIAL[operand]
        if operand.startswith("%"):
            return "v" + operand[1:]
        if re.fullmatch(r"0f[0-9A-Fa-f]{8}", operand):
            return "0x%su" % operand[2:]
        if re.fullmatch(r"0d[0-9A-Fa-f]{16}", operand):
            return "0x%sull" % operand[2:]
        if re.fullmatch(r"-?\d+|0x[0-9A-Fa-f]+", operand):
            return "static_cast<uint64_t>(%sll)" % operand if operand != "-9223372036854775808" else "(1ull << 63)"
        if operand in self.shared:
            return "static_cast<uint64_t>(%dll)" % self.shared[operand]
        if re.fullmatch(r"[\w$]+", operand):
            return "reinterpret_cast<uint64_t>(&%s[0])" % operand.replace("$", "_")
        raise ValueError("operand " + operand)

    def address(self, operand):
        base, _, offset = operand.strip("[]").partition("+")
        offset = int(offset or 0)
        if base in self.offsets:
            return "reinterpret_cast<uint64_t>(parameters) + %d" % (self.offsets[base] + offset)
        return "%s + static_cast<uint64_t>(%dll)" % (self.value(base), offset)

    def load_or_store(self, parts, operands):
        is_load, type_name = parts[0] == "ld", parts[-1]
        space = "kDevice" if parts[1] in ("global", "shared") else "kOther"
        if parts[1] not in ("global", "shared", "local", "param"):
            raise ValueError("space " + parts[1])
        place, values = (operands[1], operands[0]) if is_load else (operands[0], operands[1])
        values = split_operands(values.strip("{}"))
        kind = TYPES[type_name]
        base = "shared + " if parts[1] == "shared" else ""
        lines = ["address = %s%s;" % (base, self.address(place))]
        lines.append("%s(Space::%s, address, %d);" % ("check_load" if is_load else "check_store", space, size_of(type_name) * len(values)))
        for i, operand in enumerate(values):
            at = "address + %d" % (i * size_of(type_name))
            if is_load:
                target = self.value(operand)
                lines.append("%s = static_cast<decltype(%s)>(load<%s>(%s));" % (target, target, kind, at))
            else:
                lines.append("store<%s>(%s, static_cast<%s>(%s));" % (kind, at, kind, self.value(operand)))
        return lines

    def instruction(self, operation, operands):
        parts = operation.split(".")
        base, type_name = parts[0], parts[-1]
        if base in ("ld", "st"):
            return self.load_or_store(parts, operands)
        if operation in ("atom.global.or.b32", "red.global.or.b32"):
            place, bits = operands[-2:]
            lines = ["address = %s;" % self.address(place)]
            if base == "atom":
                lines.append("%s = load<uint32_t>(address);" % self.value(operands[0]))
            return lines + ["or_atomically(address, static_cast<uint32_t>(%s));" % self.value(bits)]
        if base == "bra":
            return ["goto %s;" % operands[0].strip("$")]
        if base == "ret":
            return ["return;"]
        if base == "shfl":
            target, _, predicate = operands[0].partition("|")
            a, b, clamp, mask = [self.value(o) for o in operands[1:]]
            lines = ["%s = shuffle(Shuffle::%s, %s, %s, %s, %s, in_range);" % (self.value(target), SHUFFLES[parts[2]], mask, a, b, clamp)]
            return lines + (["%s = in_range;" % self.value(predicate)] if predicate else [])
        if operation == "bar.warp.sync":
            return ["exchange(Collective::kSyncWarp, %s, 0, this_thread().lane());" % self.value(operands[0])]
        target, values = self.value(operands[0]), [self.value(o) for o in operands[1:]]
        if base in ("mov", "cvta"):
            expression = values[0]
        elif base == "selp":
            expression = "%s ? %s : %s" % (values[2], values[0], values[1])
        elif base == "setp" and len(parts) == 3:
            expression = "compare_%s<%s>(%s)" % (parts[1], type_name if type_name in ("f32", "f64") else TYPES[type_name], ", ".join(values))
        elif operation in ("cvt.rn.bf16x2.f32", "cvt.rn.f16x2.f32"):
            half = parts[2][:-2]
            expression = "convert<%s, f32>(Rounding::rn, %s) << 16 | convert<%s, f32>(Rounding::rn, %s)" % (half, values[0], half, values[1])
        elif base == "cvt":
            rounding = parts[1] if len(parts) == 4 else "plain"
            expression = "convert<%s, %s>(Rounding::%s, %s)" % (parts[-2], type_name, rounding, values[0])
        elif base in ("bfi", "bfe"):
            expression = "%s<%s>(%s)" % (base, TYPES[type_name], ", ".join(values))
        elif type_name == "pred":
            expression = "%s_pred(%s)" % (base, ", ".join(values))
        elif type_name in ("f32", "f64"):
            name = ".".join(parts[:-1])
            if name in CONTRACTIBLE:
                self.contractible += 1
                name += ".rn"
            if name not in REAL:
                raise ValueError("operation " + operation)
            expression = "%s<%s>(%s)" % (name.replace(".", "_"), type_name, ", ".join(values))
        else:
            name = ".".join(parts[:-1])
            if name not in INTEGER:
                raise ValueError("operation " + operation)
            name = name + "_" if name in ("and", "or", "xor", "not") else name.replace(".", "_")
            expression = "%s<%s>(%s)" % (name, TYPES[type_name], ", ".join(values))
        return ["%s = static_cast<decltype(%s)>(%s);" % (target, target, expression)]

    def add(self, statement):
        statement = " ".join(statement.split())
        if match := re.fullmatch(r"\.reg \.(\w+) %(\w+)(?:<(\d+)>)?", statement):
            type_name, prefix, count = match.groups()
            names = ["v" + prefix + str(i) for i in range(int(count))] if count else ["v" + prefix]
            self.declarations.append("%s %s;" % (REGISTERS[type_name], ", ".join(names)))
        elif match := re.fullmatch(r"\.local \.align (\d+) \.b8 (\w+)\[(\d+)\]", statement):
            align, name, size = match.groups()
            self.declarations.append("alignas(%s) unsigned char %s[%s];" % (align, name, size))
            self.body.append("std::memset(%s, 0xd7, sizeof %s);" % (name, name))
        elif match := re.fullmatch(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\]", statement):
            align, size = int(match.group(1)), int(match.group(3))
            offset = (self.shared_bytes + align - 1) // align * align
            self.shared[match.group(2)] = offset
            self.shared_bytes = offset + size
        elif statement.startswith(".pragma"):
            pass
        else:
            guard, operation, operands = re.fullmatch(r"(?:@(!?%\w+) )?([\w.]+)(?: (.*))?", statement).groups()
            lines = self.instruction(operation, split_operands(operands or ""))
            self.count(operation)
            if guard:
                condition = "!" + self.value(guard[1:]) if guard.startswith("!") else self.value(guard)
                lines = ["if (%s) { %s }" % (condition, " ".join(lines))]
            self.body += lines
            if operation.startswith(("bra", "ret")):
                self.piece = None

    def count(self, operation):
        if self.piece is None:
            self.piece = ([], len(self.body))
            self.body.append("")
        operations, place = self.piece
        operations.append(operation)
        self.body[place] = 'count("%s");' % " ".join(operations)

    def text(self):
        lines = ["// " + self.name, "void kernel_%d(const unsigned char* parameters) {" % self.number]
        lines += ["  uint64_t address; bool in_range; (void)parameters; (void)address; (void)in_range;"]
        if self.shared:
            lines.append("  const uint64_t shared = shared_memory(%d);" % self.shared_bytes)
        lines += ["  " + line for line in self.declarations + self.body] + ["}"]
        places = ", ".join("{%d, %d}" % place for place in self.parameters)
        lines.append('const Registered registered_%d("%s", &kernel_%d, %d, {%s});' % (self.number, self.name, self.number, self.size, places))
        return "\n".join(lines)


def translate(text):
    text = re.sub(r"//[^\n]*", "", text)
    out = []
    for match in re.finditer(r"^\.(?:visible \.)?(?:global|const) \.align (\d+) \.(\w+) ([\w$]+)\[(\d+)\] = \{([^}]*)\};", text, re.M):
        align, type_name, name, count, values = match.groups()
        if re.search(r"[A-Za-z_]", values.replace("0x", "")):
            raise ValueError("a table of pointers: " + name)
        out.append("alignas(%s) const %s %s[%s] = {%s};" % (align, TYPES[type_name], name.replace("$", "_"), count, values))
    for number, match in enumerate(re.finditer(r"\.entry (\w+)\s*\((.*?)\)[^{]*\{\n(.*?)\n\}", text, re.S)):
        name, parameters, body = match.groups()
        kernel = Kernel(number, name, [" ".join(p.split()) for p in parameters.split(",")])
        for piece in re.findall(r"\$\w+:|[^;:]+;", body):
            piece = piece.strip()
            if piece.endswith(":"):
                kernel.body.append(piece.strip("$") + ";")
                kernel.piece = None
            else:
                kernel.add(piece[:-1])
        if kernel.contractible:
            print("%s: %d operations that ptxas may contract: -fmad=false is missing" % (name, kernel.contractible), file=sys.stderr)
        out.append(kernel.text())
    return '#include "tests/cuda_emulation/ptx/ptx_instructions.h"\n\nnamespace cuda_emulation::ptx {\nnamespace {\n\n%s\n\n}  // namespace\n}  // namespace cuda_emulation::ptx\n' % "\n\n".join(out)


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    with open(target, "w", encoding="utf-8") as file:
        file.write(translate(text))


if __name__ == "__main__":
    main()

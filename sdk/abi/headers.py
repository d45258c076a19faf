# SPDX-License-Identifier: Apache-2.0
"""The SDK's C headers, read as the ABI guard needs them: structs with their members, constants, and the house rules."""
import dataclasses
import pathlib
import re

# Structs without struct_size, which never change within a major version.
FROZEN = {"rh_error", "rh_data_type", "rh_device", "rh_tensor"}
# What has no fixed size, promotes, or cannot grow: not in a C ABI that is to last.
BANNED = re.compile(r"\b(enum|union|long|short|int|unsigned|signed|bool|_Bool|size_t|ssize_t|wchar_t|va_list)\b|\.\.\.")
BIT_FIELD = re.compile(r"\w\s*:\s*\w+\s*;")
COMMENT = re.compile(r"/\*.*?\*/", re.S)
STRUCT = re.compile(r"(/\*(?:(?!\*/).)*\*/\n)?typedef struct (rh_\w+) \{\n(.*?)\n\} \2;", re.S)
END = re.compile(r"/\* end of 1\.(\d+): do not modify above \*/")
ASSERT_END = re.compile(r"^RH_ASSERT_END\((\w+), (\w+), \d+\);\n", re.M)
ASSERTS = re.compile(r"^RH_(?:ASSERT_END|STATIC_ASSERT)\(.*?\);\n", re.M | re.S)
CONSTANT = re.compile(r'^#define (RH_\w+) (\(?-?\d+u?\)?|"[^"]*")(?=\s|$)', re.M)
TAG = re.compile(r"(\[main\]|\[worker\]|\[thread-safe\]) since 1\.(\d+)\s*\*/$")


@dataclasses.dataclass
class Member:
    name: str
    text: str  # the declaration, without comments
    comment: str  # the one before it
    function: bool


@dataclasses.dataclass
class Struct:
    name: str
    header: str
    comment: str
    members: list
    ends: list  # (minor, how many members are above its end)


class Headers:
    """The C headers under `root`/roundhouse that are the ABI: those of the folder itself and of ext/. What lies in
    encoding/ and helper/, and every .hpp, is compiled into plugins and free to change."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        folder = self.root / "roundhouse"
        paths = [*sorted(folder.glob("*.h")), *sorted(folder.glob("ext/*.h"))]
        self.text = {path.relative_to(folder).as_posix(): path.read_text() for path in paths}
        self.helpers = [path.relative_to(folder).as_posix() for part in ("encoding", "helper")
                        for path in sorted(folder.glob(f"{part}/*.h"))]
        self.structs = {}
        self.constants = {}
        for name, text in self.text.items():
            for comment, struct, body in STRUCT.findall(text):
                self.structs[struct] = _struct(struct, name, comment, body)
            self.constants.update(CONSTANT.findall(text))

    @property
    def minor(self):
        return int(self.constants["RH_ABI_MINOR"])

    @property
    def version(self):
        return self.constants["RH_SDK_VERSION"].strip('"')

    def without_asserts(self, folder, minor=None):
        """Writes the headers under `folder` without their asserts, so that what those would see is seen again; with
        `minor`, as 1.`minor` was, without what was appended since."""
        target = pathlib.Path(folder) / "roundhouse"
        (target / "ext").mkdir(parents=True)
        later = re.compile(rf"(/\* end of 1\.{minor}: do not modify above \*/\n).*?(?=\n?\}} rh_)", re.S)
        for name, text in self.text.items():
            (target / name).write_text(later.sub(r"\1", ASSERTS.sub("", text)))
        return Headers(folder)

    def lint(self):
        """Broken house rules, a line each."""
        problems = []
        if self.version.removesuffix("-draft") != f"{self.constants['RH_ABI_MAJOR']}.{self.minor}":
            problems.append(f"abi.h: RH_SDK_VERSION is {self.version}, but RH_ABI_MINOR is {self.minor}")
        for name, text in self.text.items():
            problems += [f"{name}: {problem}" for problem in self._lint_text(text)]
        for struct in self.structs.values():
            problems += [f"{struct.header}: {struct.name}{problem}" for problem in self._lint_struct(struct)]
        return problems

    def _lint_text(self, text):
        code = COMMENT.sub("", text)
        declarations = re.sub(r"^#(?:.*\\\n)*.*$", "", code, flags=re.M)
        # `long`, `int` and the like as words; the headers' own fixed-width names pass.
        for found in BANNED.finditer(declarations):
            yield f"{found.group()} in a declaration"
        for found in BIT_FIELD.finditer(declarations):
            yield f"a bit-field: {found.group()}"
        structs = "|".join(sorted(self.structs, key=len, reverse=True))
        for found in re.finditer(rf"[(,]\s*(?:const )?(?:struct )?({structs}) \w+(?=\s*[,)])", declarations):
            yield f"{found.group(1)} passed by value"
        for found in re.finditer(rf"^ *(?:const )?({structs}) \(\*\w+\)", declarations, re.M):
            yield f"{found.group(1)} returned by value"
        exported = re.search(r"(/\*(?:(?!\*/).)*\*/)\nRH_EXTERN_C RH_EXPORT", text, re.S)
        if "RH_EXTERN_C RH_EXPORT" in text and not (exported and TAG.search(exported.group(1))):
            yield "an exported function without thread tag and version"
        for comment, name in re.findall(r"/\*((?:(?!\*/).)*)\*/\n#define (RH_ENCODING_\w+)", text, re.S):
            if not re.search(r"since 1\.\d+\s*$", comment):
                yield f"{name}: its comment does not end with the version that introduced it"

    def _lint_struct(self, struct):
        members = struct.members
        if not re.search(r"since 1\.\d+\s*\*/", struct.comment):
            yield ": its comment does not end with the version that introduced it"
        for member in members:
            if member.function:
                yield from _lint_function(struct, member)
        if struct.name in FROZEN:
            if f"RH_STATIC_ASSERT(sizeof({struct.name}) ==" not in self.text[struct.header]:
                yield ": frozen, but its size is not asserted"
            return
        if not members or members[0].text != "uint32_t struct_size":
            yield ": struct_size is not its first member"
        if not struct.ends or struct.ends[-1][1] != len(members):
            yield ": its last line is no \"end of 1.N: do not modify above\""
        minors = [minor for minor, _ in struct.ends]
        if minors != sorted(set(minors)) or any(minor > self.minor for minor in minors):
            yield f": its ends of 1.{minors} do not rise to RH_ABI_MINOR, {self.minor}"
        asserted = [last for name, last in ASSERT_END.findall(self.text[struct.header]) if name == struct.name]
        ends = [members[count - 1].name for _, count in struct.ends if count]
        if asserted != ends:
            yield f": RH_ASSERT_END names {asserted}, but published revisions end with {ends}"


def _lint_function(struct, member):
    tag = TAG.search(member.comment)
    if not tag:
        yield f".{member.name}: its comment does not end with a thread tag and \"since 1.N\""
        return
    if len(re.findall(r"\w+", member.comment[: tag.start()])) < 4:
        yield f".{member.name}: its comment does not say what it does"
    position = struct.members.index(member)
    section = next((minor for minor, count in struct.ends if position < count), None)
    if section is not None and int(tag.group(2)) > section:
        yield f".{member.name}: since 1.{tag.group(2)}, but above the end of 1.{section}"


def _struct(name, header, comment, body):
    struct = Struct(name, header, comment, [], [])
    above = ""  # the comment before the next member
    for token in re.findall(r"/\*.*?\*/|[^;/]+;", body, re.S):
        if token.startswith("/*"):
            above = token
            if end := END.fullmatch(token):
                struct.ends.append((int(end.group(1)), len(struct.members)))
            continue
        text = " ".join(token[:-1].split())
        function = re.search(r"\(\*(\w+)\)\(", text)
        declared = function or re.search(r"(\w+)(?:\[\w+\])?(?:\s*:\s*\w+)?$", text)
        struct.members.append(Member(declared.group(1), text, above, bool(function)))
        above = ""
    return struct

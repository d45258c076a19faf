"""Makes the tokenizer tests' data with the `tokenizers` package (0.23.3).

    make_tokenizer_cases.py make FOLDER      trains the small tokenizers of PIPELINES into FOLDER/<name>/tokenizer.json
                                             (other files each time: the package breaks ties of its alphabet at random)
    make_tokenizer_cases.py record FOLDER    writes FOLDER/<name>/expected.json: the package's ids for every text of
                                             FOLDER/texts.json (made from HARD_TEXTS when missing)

An entry of texts.json is {"name", and "text", "hex" (bytes) or "file" (beside texts.json)}.
"""

import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GPT2_SPECIAL = "<|endoftext|>"
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2_WORDS = LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")

HARD_TEXTS = {
    "empty": "",
    "space": " ",
    "newline": "\n",
    "words": "Hello world, it's the year 1984; they'll say WE'RE done!",
    "leading and trailing space": "  two before, two after  ",
    "spaces in runs": "a b  c   d    e     f      g       h        i" + " " * 37 + "j",
    "a long run of spaces": " " * 500,
    "a long run of newlines": "\n" * 200 + "x" + "\r\n" * 50,
    "a long run of one letter": "a" * 300,
    "tabs and newlines": "\t\tif x:\n\t\t\treturn\t1\n\n\n  \t \n \r\n\r end \n",
    "digits": "0 12 123 1234 12345 3.14159 1,000,000 2^10 ٣٤٥ ½ Ⅷ ² 一二三",
    "punctuation": "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ¡¿«»„“”‘’…—–‐",
    "contractions": "I'm you're he's we've they'd I'll DON'T 'S 'tis ’s",
    "emoji": "😀👍🏽👨‍👩‍👧‍👦🏳️‍🌈🇩🇪❤️ text 🤷🏻‍♀️!",
    "chinese": "你好，世界！这是一个测试。繁體字。",
    "japanese and korean": "こんにちは世界、カタカナ ﾊﾝｶｸ 한국어 텍스트 ㄱㄴ",
    "right to left": "שלום עולם مرحبا بالعالم فارسی می‌خواهم",
    "indic and thai": "नमस्ते दुनिया क्षत्रिय สวัสดีชาวโลก ภาษาไทย",
    "latin with accents": "Ångström naïve façade ñandú Übergröße ﬁ ﬂ ŉ ǆ İstanbul ıI ẞß",
    "combining marks": "e\u0301 a\u0308\u0323 o\u0302\u0301 n\u0303 \u0301alone Z\u0335\u0321a\u0334l\u0337g\u0338o",
    "hangul jamo": "\u1112\u1161\u11ab\u1100\u1173\u11af 한글",
    "compatibility forms": "ﷺ ① ｆｕｌｌ　ｗｉｄｔｈ ™ ㎏ ℌ \u00bd \u2126 \u212b",
    "controls": "a\x00b\x01c\x07d\x08e\x0bf\x0cg\x1bh\x7fi\x80j\x85k\x9fl\xadm",
    "invisible characters": "a\u200bb\u200cc\u200dd\u200ee\u2060f\ufeffg\u00a0h\u202fi\u3000j\u2028k\u2029l\u180em",
    "outside the plane": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠜎 \U0010ffff \uffff \ue000",
    "replacement character": "\ufffd \ufffd\ufffd",
    "marks of the models": "▁a▁▁b ▁c Ġd Ċe </w>f ##g <0x41> <0xE2><0x98><0x83>",
    "special tokens": "<s>Hello</s> <s> there </s>  <unk> x<unk>y <|endoftext|><|endoftext|> end "
    "<|im_start|>user\nHi<|im_end|>\n",
    "special tokens of llama 3": "<|begin_of_text|>  <|eot_id|> a<|eot_id|>b <|begin_of_text",
    "added tokens": "a[L] b [L]c [R]  d[R]\n\ne[LR] [LR] f wordWORD WORD, WORD1 WORD_ éWORD WORD’s word WORD",
    "added tokens in another case": "Yesterday yesterday YESTERDAY Café CAFÉ cafe\u0301 <S> [l]  [ L ]",
    "url and code": 'https://example.org/a?b=c&d=%20#e for(int i=0;i<10;++i){printf("%d\\n",i);} // x_y-z',
    "mixed": "Das ist 1 Test — 数字123と文字abc, emoji😀mix\tתו\u05b8ו end.",
    "invalid lead byte": b"a\xffb\xfec\x80d",
    "invalid truncated": b"ok \xe2\x82 next \xf0\x9f\x98 then \xc3",
    "invalid overlong and surrogate": b"\xc0\xaf \xe0\x80\xaf \xed\xa0\x80\xed\xb0\x80 \xf4\x90\x80\x80 \xf8\x88\x80\x80\x80",
    "invalid before a special token": b"\xf0\x9f<s>\xe4\xbd</s>",
}


def train(tokenizer, vocab_size, special_tokens, alphabet=(), **options):
    """BPE trained on the hard texts: a few KB, with merges in most scripts."""
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=list(alphabet),
        show_progress=False,
        **options,
    )
    texts = [text for name, text in HARD_TEXTS.items() if isinstance(text, str) and "run" not in name]
    tokenizer.train_from_iterator(texts * 2, trainer)
    return tokenizer


def train_byte_level(pre_tokenizer, special_tokens, normalizer=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, 600, special_tokens, pre_tokenizers.ByteLevel.alphabet())


def gpt2():
    tokenizer = train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), [GPT2_SPECIAL])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def phi():
    """Runs of spaces and tabs as added tokens that are matched after normalization."""
    tokenizer = gpt2()
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(31, 1, -1)])
    tokenizer.add_tokens([AddedToken("\t" * n, normalized=True) for n in range(9, 1, -1)])
    return tokenizer


def roberta():
    tokenizer = train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), ["<s>", "</s>", "<pad>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return tokenizer


def llama3():
    words = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer = train_byte_level(words, ["<|begin_of_text|>", "<|eot_id|>"], ignore_merges=True)
    template = processors.TemplateProcessing("<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return tokenizer


def qwen2():
    words = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return train_byte_level(words, [GPT2_SPECIAL, "<|im_start|>", "<|im_end|>"], normalizers.NFC())


def smollm():
    words = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return train_byte_level(words, [GPT2_SPECIAL, "<|im_start|>", "<|im_end|>"])


def metaspace(scheme, split, bytes_known, normalizer=None):
    """SentencePiece's manner; `bytes_known` of the 256 bytes have a token to fall back on."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(bytes_known)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=bool(byte_tokens)))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    train(tokenizer, 500, ["<unk>", "<s>", "</s>"] + byte_tokens, limit_alphabet=90, max_token_length=12)
    # Byte tokens are special only in training: in a text they are ordinary characters.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer


def llama2():
    return metaspace(None, None, 256, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))


def mistral():
    return metaspace("first", False, 256)


def gemma():
    tokenizer = metaspace("never", True, 256)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return tokenizer


def some_bytes():
    """Only ASCII bytes have tokens: other unknown characters fuse to <unk>."""
    tokenizer = metaspace("always", True, 128)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def flags():
    """Added tokens with every flag, over a lowercasing normalizer."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    strip = normalizers.Strip(left=True, right=False)
    tokenizer.normalizer = normalizers.Sequence(
        [strip, normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Digits()]
    )
    train(tokenizer, 400, ["<unk>", "<s>", "</s>"], limit_alphabet=120)
    tokenizer.add_tokens(
        [
            AddedToken("[L]", lstrip=True, normalized=False),
            AddedToken("[R]", rstrip=True, normalized=False),
            AddedToken("[LR]", lstrip=True, rstrip=True, normalized=False),
            AddedToken("WORD", single_word=True, normalized=False),
            AddedToken("Yesterday", normalized=True),
            AddedToken("café", normalized=True, single_word=True),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<|im_start|>", rstrip=True), AddedToken("<|im_end|>")])
    return tokenizer


def affixes():
    """A prefix within words, a suffix at their ends, unknown characters one by one, the older merges."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s{2,}"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    train(tokenizer, 500, ["<unk>"], limit_alphabet=100, continuing_subword_prefix="##", end_of_word_suffix="</w>")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    return tokenizer


def splits():
    """Every behavior of Split, literal and inverted patterns, a normalizer that makes bytes of the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.ByteLevel()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("Ġ", "merged_with_next"),
            pre_tokenizers.Split(Regex("[aeiou]+"), "merged_with_previous"),
            pre_tokenizers.Split(Regex("[A-Z]"), "contiguous"),
            pre_tokenizers.Split(".", "removed"),
            pre_tokenizers.Split(Regex(r"[^,]+"), "removed", invert=True),
            pre_tokenizers.Split(Regex(r"(?=[0-9])"), "isolated"),
            pre_tokenizers.CharDelimiterSplit("z"),
            pre_tokenizers.Punctuation("merged_with_next"),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, 400, ["<s>"], pre_tokenizers.ByteLevel.alphabet())


PIPELINES = [gpt2, phi, roberta, llama3, qwen2, smollm, llama2, mistral, gemma, some_bytes, flags, affixes, splits]


def make(folder):
    for pipeline in PIPELINES:
        path = folder / ("made-" + pipeline.__name__.replace("_", "-"))
        path.mkdir(parents=True, exist_ok=True)
        data = json.loads(pipeline().to_str())
        if pipeline is affixes:
            data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        (path / "tokenizer.json").write_text(text, encoding="utf-8")


def read_texts(folder):
    path = folder / "texts.json"
    if not path.exists():
        entries = [
            {"name": name, "text": text} if isinstance(text, str) else {"name": name, "hex": text.hex()}
            for name, text in HARD_TEXTS.items()
        ]
        path.write_text(json.dumps(entries, indent=0), encoding="utf-8")
    for entry in json.loads(path.read_text(encoding="utf-8")):
        if "file" in entry:
            text = (folder / entry["file"]).read_bytes().decode("utf-8", errors="replace")
        else:
            text = entry["text"] if "text" in entry else bytes.fromhex(entry["hex"]).decode("utf-8", errors="replace")
        yield entry["name"], text


def record(folder):
    texts = dict(read_texts(folder))
    for path in sorted(folder.glob("*/tokenizer.json")):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        expected = {}
        for name, text in texts.items():
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            ids = tokenizer.encode(text).ids
            expected[name] = {"ids": ids, "plain": plain, "decoded": tokenizer.decode(plain, skip_special_tokens=False)}
        path.with_name("expected.json").write_text(json.dumps(expected, separators=(",", ":")), encoding="utf-8")


if __name__ == "__main__":
    commands = {"make": make, "record": record}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](pathlib.Path(sys.argv[2]))

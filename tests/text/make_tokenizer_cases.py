# SPDX-License-Identifier: Apache-2.0
"""Makes the tokenizer tests' data with the packages tokenizers (0.23.3), transformers (5.23.0), sentencepiece (0.2.3).

    make_tokenizer_cases.py make FOLDER [NAME...]     trains the small tokenizers of PIPELINES into
                                             FOLDER/<name>/tokenizer.json, and writes those of FORMS in other files
                                             (other files each time: tokenizers breaks ties of its alphabet at random)
    make_tokenizer_cases.py record FOLDER [NAME...]   writes FOLDER/<name>/expected.json: the package's ids for every
                                             text of FOLDER/texts.json (made from HARD_TEXTS when missing); for FORMS,
                                             whose package is transformers or sentencepiece, those of FORM_TEXTS

An entry of texts.json is {"name", and "text", "hex" (bytes) or "file" (beside texts.json)}.
"""

import base64
import json
import pathlib
import sys
import tempfile

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


def word_piece():
    """BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece("##", cleanup=True)
    special_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=450, special_tokens=special_tokens, limit_alphabet=150, show_progress=False
    )
    tokenizer.train_from_iterator(training_texts() * 2, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def unigram():
    """T5's manner, with SentencePiece's compiled normalization, here a small one."""
    import sentencepiece.sentencepiece_model_pb2 as model_pb2

    proto = model_pb2.ModelProto.FromString(sentence_piece("unigram", 400, normalization_rules=True))
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 2)])
    return tokenizer


PIPELINES = [
    gpt2, phi, roberta, llama3, qwen2, smollm, llama2, mistral, gemma, some_bytes, flags, affixes, splits, word_piece,
    unigram,
]  # fmt: skip


def training_texts():
    return [text for name, text in HARD_TEXTS.items() if isinstance(text, str) and "run" not in name]


def sentence_piece(algorithm, size, normalization_rules=False, **options):
    """The bytes of a SentencePiece model. `normalization_rules`: a few of nmt_nfkc's, whose table has 240 KB."""
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        lines = [line for text in training_texts() for line in text.splitlines() if line.strip() and "\0" not in line]
        (folder / "texts").write_text("\n".join(lines * 3), encoding="utf-8")
        if normalization_rules:
            rules = {"ﬁ": "fi", "ﬂ": "fl", "①": "1", "™": "TM", "ﷺ": "صلى الله", "\u3000": " ", "\xa0": " ", "\xad": "",
                     "\u200b": "", "e\u0301": "é", "n\u0303": "ñ", "\t": " ", "Ⅷ": "VIII", "…": "...", "\u212b": "\u00c5"}
            rows = ["\t".join(" ".join(f"{ord(c):X}" for c in side) for side in rule) for rule in rules.items()]
            (folder / "rules").write_text("\n".join(rows) + "\n")
            options["normalization_rule_tsv"] = folder / "rules"
        sentencepiece.SentencePieceTrainer.train(
            input=folder / "texts", model_prefix=str(folder / "made"), model_type=algorithm, vocab_size=size,
            character_coverage=0.98, hard_vocab_limit=False, minloglevel=2, **options)  # fmt: skip
        return (folder / "made.model").read_bytes()


def bytes_of(token):
    """What a token of a byte-level vocabulary stands for."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    return bytes(byte_of[character] for character in token)


def ranked_tokens():
    """Byte-level tokens, those of one byte first."""
    vocab = json.loads(llama3().to_str())["model"]["vocab"]
    tokens = [bytes_of(token) for token in sorted(vocab, key=vocab.get) if not token.startswith("<|")]
    return sorted(tokens, key=lambda token: (len(token) > 1, token if len(token) == 1 else b""))


def vocabulary_and_merges(pipeline):
    model = json.loads(pipeline().to_str())["model"]
    return {
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "\n".join(" ".join(merge) for merge in model["merges"]) + "\n",
    }


def gpt2_files():
    """OPT's folder."""
    files = vocabulary_and_merges(roberta)
    token = {"__type": "AddedToken", "normalized": True, "lstrip": False, "rstrip": False, "single_word": False}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "pad_token": "<pad>", "errors": "replace"}
    for role in ("bos_token", "eos_token", "unk_token"):
        config[role] = {**token, "content": "</s>"}
    size = len(json.loads(files["vocab.json"]))
    files["added_tokens.json"] = json.dumps({"WORD": size + 1, "[L]": size})
    files["special_tokens_map.json"] = json.dumps({"bos_token": {"content": "<s>", **token}, "eos_token": "</s>"})
    return files, config


def qwen2_files():
    files = vocabulary_and_merges(qwen2)
    size = len(json.loads(files["vocab.json"]))
    token = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    decoder = {size + 3: {**token, "content": "[L]"}, size + 7: {**token, "content": "WORD", "special": False}}
    return files, {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "added_tokens_decoder": decoder}


def tekken_files():
    tokens = ranked_tokens()
    special = ["<unk>", "<s>", "</s>", "[INST]", "[L]"]
    content = {
        "config": {"pattern": LLAMA3_WORDS, "default_vocab_size": len(tokens) - 5 + 8, "default_num_special_tokens": 8},
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
            for rank, token in enumerate(tokens)
        ],
        "special_tokens": [{"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(special)],
    }
    config = {"tokenizer_class": "TokenizersBackend", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>"}
    return {"tekken.json": json.dumps(content)}, config


def tiktoken_files():
    tokens = ranked_tokens()
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)]
    token = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    decoder = {
        len(tokens) + 2: {**token, "content": "<|begin_of_text|>"},
        len(tokens) + 4: {**token, "content": "<|eot_id|>"},
    }
    config = {"tokenizer_class": "TokenizersBackend", "bos_token": "<|begin_of_text|>", "add_bos_token": True}
    return {"tiktoken.model": "".join(lines)}, {**config, "added_tokens_decoder": decoder}


def bert_files():
    vocab = json.loads(word_piece().to_str())["model"]["vocab"]
    return {"vocab.txt": "".join(token + "\n" for token in sorted(vocab, key=vocab.get))}, {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": False,
    }


def llama_files():
    model = sentence_piece(
        "bpe", 600, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        user_defined_symbols=["[L]"],
    )  # fmt: skip
    return {"tokenizer.model": model}, {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}


def unigram_files():
    return {"tokenizer.model": sentence_piece("unigram", 600, normalization_rules=True, byte_fallback=True)}, {}


def added_files():
    """Tokens that tokenizer.json lacks, and others flags for one that it has."""
    tokenizer = gpt2()
    tokenizer.add_tokens([AddedToken("WORD", normalized=False)])
    data = json.loads(tokenizer.to_str())
    size = tokenizer.get_vocab_size()
    token = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": False}
    decoder = {
        size - 1: {**token, "content": "WORD", "single_word": True},
        size + 2: {**token, "content": "[L]", "lstrip": True},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "extra_special_tokens": ["[R]"]}
    return {"tokenizer.json": json.dumps(data, ensure_ascii=False)}, {**config, "added_tokens_decoder": decoder}


FORMS = [
    gpt2_files, qwen2_files, tekken_files, tiktoken_files, bert_files, llama_files, unigram_files, added_files,
]  # fmt: skip
FORM_TEXTS = [
    "empty", "space", "words", "leading and trailing space", "tabs and newlines", "digits", "contractions", "emoji",
    "chinese", "latin with accents", "combining marks", "compatibility forms", "invisible characters",
    "special tokens", "special tokens of llama 3", "added tokens", "mixed",
]  # fmt: skip


def folder_name(function):
    return "made-" + function.__name__.replace("_", "-")


def make(folder, names):
    for pipeline in PIPELINES:
        path = folder / folder_name(pipeline)
        if names and path.name not in names:
            continue
        path.mkdir(parents=True, exist_ok=True)
        data = json.loads(pipeline().to_str())
        if pipeline is affixes:
            data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        (path / "tokenizer.json").write_text(text, encoding="utf-8")
    for form in FORMS:
        path = folder / folder_name(form)
        if names and path.name not in names:
            continue
        path.mkdir(parents=True, exist_ok=True)
        files, config = form()
        for name, content in files.items():
            (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        if config:
            (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


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


class Package:
    """The ids of the package that reads the folder's files."""

    def __init__(self, path):
        if path.name == folder_name(unigram_files):
            import sentencepiece

            model = sentencepiece.SentencePieceProcessor(model_file=str(path / "tokenizer.model"))
            self.ids = lambda text, special: model.encode(text)
            self.decode = model.decode
        elif path.name in map(folder_name, FORMS):
            from transformers import AutoTokenizer, TokenizersBackend

            config = json.loads((path / "tokenizer_config.json").read_text())
            backend = config["tokenizer_class"] == "TokenizersBackend"
            model = (TokenizersBackend if backend else AutoTokenizer).from_pretrained(path)
            self.ids = lambda text, special: model(text, add_special_tokens=special)["input_ids"]
            self.decode = lambda ids: model.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        else:
            model = Tokenizer.from_file(str(path / "tokenizer.json"))
            model.no_truncation()
            model.no_padding()
            self.ids = lambda text, special: model.encode(text, add_special_tokens=special).ids
            self.decode = lambda ids: model.decode(ids, skip_special_tokens=False)


def record(folder, names):
    texts = dict(read_texts(folder))
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        if names and path.name not in names:
            continue
        package = Package(path)
        form = path.name in map(folder_name, FORMS)
        expected = {}
        for name, text in texts.items():
            if form and name not in FORM_TEXTS:
                continue
            # SentencePiece itself looks for no special tokens in a text.
            if path.name == folder_name(unigram_files) and "special" in name:
                continue
            plain = package.ids(text, False)
            expected[name] = {"ids": package.ids(text, True), "plain": plain, "decoded": package.decode(plain)}
        (path / "expected.json").write_text(json.dumps(expected, separators=(",", ":")), encoding="utf-8")


if __name__ == "__main__":
    commands = {"make": make, "record": record}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](pathlib.Path(sys.argv[2]), sys.argv[3:])

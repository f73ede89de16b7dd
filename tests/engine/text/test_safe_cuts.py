"""Cuts of long texts: the tokens of the beginning are those of the whole text, whatever the tokenizer."""

import io
import re
import string
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_checkpoints import FAMILIES, make_texts
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import import_protobuf

from crossrank.engine.text import reading, safe_cuts
from crossrank.engine.text.encoding import PairEncoder
from crossrank.engine.text.reading import TextReader
from crossrank.engine.text.safe_cuts import SIMPLE, SafeCuts

DEFAULT_CHECKPOINT = Path(__file__).parents[3] / "models" / "default" / "checkpoint"
METASPACE = "\u2581"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS = ("the", "river", "ing", "a", "b", "''", "s", "中", "中文", "e", "u", "c", "d", "42", ".", ",", "é", "я")

PIECES = st.sampled_from(
    [
        *(
            "the river",
            " river",
            "a b",
            "ab",
            "don't",
            "it's ",
            "a''b",
            "a``b",
            "a.b",
            "x,y",
            "a_b c",
            "3.14 42",
            "(a) b",
        ),
        *(" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "a \n b", "\u00a0", "\u2028", "\u3000", " \u0308", "\x85"),
        *(
            "\x00",
            "\x01",
            "\ufeff",
            "\u200d",
            "\u200b",
            "\ufffd",
            "\u00ad",
            "\u0600 ",
            "\u0600a b",
            "\u0308",
            "e\u0301 a",
        ),
        *("中文", "日本語 で", "かな", "か\u3099 x", "한국 어", "각\u11a8 b", "中\ufe00 文", "👩\u200d🚀 a", "🇩🇪 b"),
        *("Zürich", "İstanbul a", "ﬁne a", "Straße b", "ΣΑΣ \u03b1", "слово я", "ŉ b", "क\u094d ष", "ก า", "שלום a"),
        *(
            "<t>",
            "<t> ",
            " <t>",
            "a<t>b",
            "<T>",
            "river<t> ",
            "the r",
            "a b c",
            METASPACE,
            f"a{METASPACE}b",
            "Ġ",
            "##ing",
        ),
        *(",", ", a", "a,b,c", "。a", "”a", "-a", "_", "`", "'"),
    ]
)
TEXTS = (
    st.lists(PIECES | st.text(max_size=3), min_size=1, max_size=14)
    .map("".join)
    .filter(lambda text: not re.search("[\ud800-\udfff]", text))
)


@cache
def charsmap():
    """SentencePiece's own map of characters (nmt_nfkc), out of a model trained on the spot."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the river heats cold water"] * 20),
        model_writer=written,
        vocab_size=40,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    return import_protobuf().ModelProto.FromString(written.getvalue()).normalizer_spec.precompiled_charsmap


REPLACES = st.tuples(
    st.sampled_from([" ", "''", "``", "a", "\n", "  ", Regex(" {2,}"), Regex(r"\s+"), "a b", "r", "é", "中"]),
    st.sampled_from([METASPACE, '"', " ", "", "x ", " x", "\u0308", "_"]),
).map(lambda both: normalizers.Replace(*both))
NORMALIZERS = st.one_of(
    st.builds(
        normalizers.BertNormalizer,
        clean_text=st.booleans(),
        handle_chinese_chars=st.booleans(),
        strip_accents=st.none() | st.booleans(),
        lowercase=st.booleans(),
    ),
    st.sampled_from(
        [
            *(normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD()),
            *(normalizers.Lowercase(), normalizers.StripAccents(), normalizers.Nmt(), normalizers.ByteLevel()),
            *(normalizers.Prepend(METASPACE), normalizers.Prepend("a")),
        ]
    ),
    st.builds(normalizers.Strip, st.booleans(), st.booleans()),
    st.builds(lambda: normalizers.Precompiled(charsmap())),
    REPLACES,
)
BEHAVIORS = st.sampled_from(["isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"])
SPLITS = st.sampled_from(
    [" ", "a", ",", "  ", "''", "a b", METASPACE, "river", Regex(GPT2), Regex(CL100K), Regex(r"\s+")]
)
PRE_TOKENIZERS = st.one_of(
    st.sampled_from(
        [
            *(pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit()),
            *(pre_tokenizers.UnicodeScripts(), pre_tokenizers.CharDelimiterSplit(" ")),
            # tokenizers 0.21, the oldest there may be, does not have it.
            *([pre_tokenizers.FixedLength(3)] if hasattr(pre_tokenizers, "FixedLength") else []),
        ]
    ),
    st.builds(pre_tokenizers.ByteLevel, add_prefix_space=st.booleans(), use_regex=st.booleans()),
    st.builds(
        pre_tokenizers.Metaspace, prepend_scheme=st.sampled_from(["always", "first", "never"]), split=st.booleans()
    ),
    st.builds(pre_tokenizers.Split, SPLITS, BEHAVIORS, st.booleans()),
    st.builds(pre_tokenizers.Punctuation, BEHAVIORS),
    st.builds(pre_tokenizers.Digits, st.booleans()),
)
FLAGS = st.fixed_dictionaries(
    {name: st.booleans() for name in ("lstrip", "rstrip", "single_word", "normalized", "special")}
)
ADDED_TOKENS = st.lists(
    st.builds(
        lambda content, flags: AddedToken(content, **flags),
        st.sampled_from(["<t>", "a", "the river", "r t", " b", "b ", ",", "中", "中文", "é", "a,", "river", "\u200d"]),
        FLAGS,
    ),
    max_size=3,
    unique_by=lambda token: token.content,
)


def alphabet():
    return sorted({*string.printable, *"".join(WORDS), METASPACE, "Ġ", *"日本語かなのでüßя"} - {"\x0b", "\x0c"})


def word_piece(crossing=False, limit=8):
    tokens = ["[UNK]", *alphabet(), *("##" + c for c in alphabet()), *WORDS, "##ing", "##ver"]
    return models.WordPiece(
        {t: i for i, t in enumerate(dict.fromkeys(tokens))}, unk_token="[UNK]", max_input_chars_per_word=limit
    )


def word_level(crossing=False):
    return models.WordLevel({t: i for i, t in enumerate(dict.fromkeys(["[UNK]", *WORDS]))}, unk_token="[UNK]")


def bpe(crossing=False, byte_fallback=False, fuse=True, ignore=False):
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("r", "i"),
        (METASPACE, "r"),
        ("Ġ", "r"),
        ("Ġr", "i"),
        (" ", "r"),
        (METASPACE + "r", "i"),
    ]
    if crossing:
        merges += [("e", METASPACE), ("e" + METASPACE, "r"), ("e", " "), ("a", METASPACE), ("a" + METASPACE, "b")]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else []
    tokens = ["[UNK]", *byte_tokens, *alphabet(), *(a + b for a, b in merges)]
    vocabulary = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
    return models.BPE(
        vocabulary, merges, unk_token="[UNK]", fuse_unk=fuse, byte_fallback=byte_fallback, ignore_merges=ignore
    )


def unigram(crossing=False):
    pieces = ["<unk>", *alphabet(), *WORDS, METASPACE + "the", METASPACE + "r", METASPACE + "a", METASPACE + METASPACE]
    if crossing:
        pieces += ["e" + METASPACE + "r", "a" + METASPACE + "b", "a b", "a" + METASPACE]
    return models.Unigram([(t, -1.0 - (i * 7 % 13) / len(t)) for i, t in enumerate(dict.fromkeys(pieces))], 0)


@st.composite
def tokenizers_of_all_kinds(draw):
    model = draw(st.sampled_from([word_piece, word_level, bpe, unigram]))
    options = {"crossing": draw(st.booleans())}
    if model is bpe:
        options |= {"byte_fallback": draw(st.booleans()), "fuse": draw(st.booleans()), "ignore": draw(st.booleans())}
    tokenizer = Tokenizer(model(**options))
    steps = draw(st.lists(NORMALIZERS, max_size=3))
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps) if len(steps) > 1 else steps[0]
    parts = draw(st.lists(PRE_TOKENIZERS, max_size=3))
    if parts:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts) if len(parts) > 1 else parts[0]
    for token in draw(ADDED_TOKENS):
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


def tokens_of(tokenizer, text):
    (encoding,) = tokenizer.encode_batch([text], add_special_tokens=False)
    return list(zip(encoding.ids, encoding.offsets, strict=True))


def assert_cuts_keep_tokens(tokenizer, text):
    """Assert it of every cut of a text; gives how many there are."""
    cuts = SafeCuts.of(tokenizer)
    if cuts is None:
        return 0
    places = {cuts.next_cut(text, position) for position in range(len(text))} - {None}
    whole = tokens_of(tokenizer, text) if places else []
    for cut in places:
        beginning = tokens_of(tokenizer, text[:cut])
        assert beginning == whole[: len(beginning)], (text, cut, tokenizer.normalizer, tokenizer.pre_tokenizer)
    return len(places)


def sequence(kind, *parts):
    return kind.Sequence(list(parts))


def tokenizer_of(model, normalizer=None, pre_tokenizer=None, *added):
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_tokens(list(added))
    return tokenizer


@given(tokenizer=tokenizers_of_all_kinds(), text=TEXTS)
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_the_tokens_before_a_cut_do_not_depend_on_what_is_after_it(tokenizer, text):
    assert_cuts_keep_tokens(tokenizer, text)


METASPACES = {
    "always": pre_tokenizers.Metaspace(prepend_scheme="always"),
    "unsplit": pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
}
LLAMA = (normalizers.Prepend(METASPACE), normalizers.Replace(" ", METASPACE))
ADDED = AddedToken("<t>", lstrip=True, rstrip=True, normalized=False)
COMMON = {
    "BERT": lambda: tokenizer_of(
        word_piece(),
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
        AddedToken("[MASK]", lstrip=True, normalized=False),
    ),
    "BERT, cased": lambda: tokenizer_of(
        word_piece(), normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()
    ),
    "RoBERTa": lambda: tokenizer_of(bpe(), None, pre_tokenizers.ByteLevel(add_prefix_space=False), ADDED),
    "ModernBERT": lambda: tokenizer_of(bpe(), normalizers.NFC(), pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "XLM-RoBERTa": lambda: tokenizer_of(
        unigram(),
        normalizers.Precompiled(charsmap()),
        sequence(pre_tokenizers, pre_tokenizers.WhitespaceSplit(), METASPACES["always"]),
    ),
    "DeBERTa-v3": lambda: tokenizer_of(
        unigram(),
        sequence(
            normalizers,
            normalizers.Strip(),
            normalizers.Precompiled(charsmap()),
            normalizers.Replace(Regex(" {2,}"), " "),
        ),
        METASPACES["always"],
    ),
    "ALBERT": lambda: tokenizer_of(
        unigram(),
        sequence(
            normalizers,
            *(normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD()),
            *(normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Precompiled(charsmap())),
        ),
        METASPACES["always"],
    ),
    "Qwen": lambda: tokenizer_of(
        bpe(),
        normalizers.NFC(),
        sequence(
            pre_tokenizers,
            pre_tokenizers.Split(Regex(CL100K), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ),
    ),
    "Llama, merges within words": lambda: tokenizer_of(bpe(byte_fallback=True), sequence(normalizers, *LLAMA)),
    "Gemma": lambda: tokenizer_of(unigram(), LLAMA[1], METASPACES["unsplit"]),
    "words": lambda: tokenizer_of(word_level(), normalizers.Lowercase(), pre_tokenizers.Whitespace()),
}


@pytest.mark.parametrize("kind", COMMON)
@given(text=TEXTS)
@settings(max_examples=40)
def test_the_tokenizers_of_common_models_are_cut_and_keep_their_tokens(kind, text):
    tokenizer = COMMON[kind]()
    assert assert_cuts_keep_tokens(tokenizer, "the river, the river") > 0
    assert_cuts_keep_tokens(tokenizer, text)


NEVER = {
    "nothing splits, merges across words": lambda: tokenizer_of(bpe(crossing=True), sequence(normalizers, *LLAMA)),
    "nothing splits, pieces across words": lambda: tokenizer_of(unigram(crossing=True), None, METASPACES["unsplit"]),
    "a model of whole words and nothing that splits": lambda: tokenizer_of(word_level()),
    "merges that are not all used": lambda: tokenizer_of(bpe(ignore=True), sequence(normalizers, *LLAMA)),
    "random merges": lambda: tokenizer_of(
        models.BPE({"[UNK]": 0, "e": 1}, [], dropout=0.5), None, pre_tokenizers.Whitespace()
    ),
    "a pattern not known": lambda: tokenizer_of(word_piece(), None, pre_tokenizers.Split(Regex(r"e r"), "isolated")),
    "a replacement not known": lambda: tokenizer_of(
        word_piece(), normalizers.Replace(Regex(r"e\s"), "x"), pre_tokenizers.Whitespace()
    ),
    "bytes before the text is split": lambda: tokenizer_of(bpe(), normalizers.ByteLevel(), pre_tokenizers.Whitespace()),
    "an added token across": lambda: tokenizer_of(
        word_piece(), None, pre_tokenizers.Whitespace(), AddedToken("e river", normalized=False)
    ),
    "an added token across once normalized": lambda: tokenizer_of(
        word_piece(), normalizers.Lowercase(), pre_tokenizers.Whitespace(), AddedToken("E R", normalized=True)
    ),
    "an added token that takes the space after it": lambda: tokenizer_of(
        word_piece(), None, pre_tokenizers.Whitespace(), AddedToken("the", rstrip=True, normalized=False)
    ),
    "the space joins the word before it": lambda: tokenizer_of(
        word_piece(), None, pre_tokenizers.Split(" ", "merged_with_previous")
    ),
}


@pytest.mark.parametrize("kind", NEVER)
def test_where_the_tokens_may_depend_on_what_follows_no_text_is_cut(kind):
    cuts = SafeCuts.of(NEVER[kind]())
    assert cuts is None or cuts.next_cut("the river", 2) is None


@pytest.mark.parametrize("text", ["x" * 300, "the\u00a0river" * 9, "the \u0308river" * 9, "a\u200d " * 99, " " * 300])
def test_a_text_has_no_cut_beside_what_is_not_simple(text):
    cuts = SafeCuts.of(COMMON["BERT"]())
    assert cuts.next_cut(text, 2) is None


def test_ideographs_are_cut_where_the_tokenizer_splits_them_and_only_there():
    assert SafeCuts.of(COMMON["BERT"]()).next_cut("中文中文", 2) == 2
    assert SafeCuts.of(COMMON["ModernBERT"]()).next_cut("中文中文", 2) is None


def test_simple_characters_are_what_they_are_said_to_be():
    simple = [character for character in map(chr, range(0x110000)) if re.fullmatch(f"[{SIMPLE}]", character)]
    assert len(simple) > 30_000
    for character in simple:
        decomposed = unicodedata.normalize("NFKD", character)
        assert unicodedata.category(character)[0] not in "MCZ", character
        assert unicodedata.category(decomposed[0])[0] not in "MCZ", character
        assert unicodedata.combining(decomposed[0]) == 0, character
        assert not any(part.isspace() for part in decomposed), character
        for before in "aeuoé가か中क":  # none of them is the second part of a composition
            for form in ("NFC", "NFKC"):
                composed = unicodedata.normalize(form, before + character)
                assert composed == unicodedata.normalize(form, before) + unicodedata.normalize(form, character)


@pytest.fixture(params=[*FAMILIES, "default"])
def path(request, tiny_checkpoint):
    """tokenizer.json of each family, and of the default model."""
    folder = DEFAULT_CHECKPOINT if request.param == "default" else tiny_checkpoint(request.param)
    return folder / "tokenizer.json"


@cache
def encoder_of(path, max_length=20):
    return PairEncoder.load(path, max_length=max_length, pad_token_id=0)


@cache
def whole_tokenizer(path):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@given(texts=st.lists(st.lists(TEXTS | st.sampled_from(make_texts(20)), max_size=6).map("".join), max_size=4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_read_of_texts_are_their_first_tokens_and_whether_there_are_more(path, texts):
    encoder, wanted = encoder_of(path), 9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_CHARACTERS_PER_TOKEN", 1)
        patch.setattr(reading, "_WORTH_CUTTING", 1.0)
        patch.setattr(reading, "_MOST_GROWTH", 2.0)
        documents = encoder.encode_whole_documents(texts, wanted)
    for index, text in enumerate(texts):
        whole = tokens_of(whole_tokenizer(path), text)
        own = slice(documents.offsets[index], documents.offsets[index + 1])
        spans = map(tuple, documents.spans[own].tolist())
        assert list(zip(documents.ids[own].tolist(), spans, strict=True)) == whole[:wanted]
        assert documents.full_lengths[index] == min(len(whole), wanted + 1)


@pytest.fixture
def characters(monkeypatch):
    """Counts the characters that are tokenized."""
    counted = []
    encode = TextReader._encode

    def count(self, texts, chunk, *, spans):
        counted.extend(piece.end for piece in chunk)
        return encode(self, texts, chunk, spans=spans)

    monkeypatch.setattr(TextReader, "_encode", count)
    return counted


def test_of_a_long_text_little_more_is_tokenized_than_is_used(path, characters):
    text = " ".join(make_texts(3000))
    encoder = encoder_of(path, 60)
    for encode in (lambda: encoder.encode_documents([text]), lambda: encoder.encode_query(text)):
        characters.clear()
        encode()
        assert sum(characters) < 1500 < len(text) / 100
        assert encoder.characters_read([text], encoder.text_tokens)[0] < 500


def test_answers_kept_stay_bounded_although_threads_add_some_at_one_time(monkeypatch):
    most, threads = 20, 2
    monkeypatch.setattr(safe_cuts, "_MOST_KNOWN", most)
    cuts = SafeCuts.of(COMMON["BERT"]())
    for letter in string.ascii_letters[: most - 1]:
        cuts.next_cut(f"x{letter} y", 0)
    together, allows = threading.Barrier(threads, timeout=20), SafeCuts.allows

    def allowed_together(self, left, right):
        together.wait()
        return allows(self, left, right)

    with monkeypatch.context() as patch, ThreadPoolExecutor(threads) as pool:
        patch.setattr(SafeCuts, "allows", allowed_together)
        assert all(pool.map(lambda digit: cuts.next_cut(f"x{digit} y", 0), "12"))
    for letter in string.ascii_letters:
        cuts.next_cut(f"x{letter} z", 0)
    assert len(cuts._known) <= most


@pytest.mark.parametrize("text", ["QUJDREVG" * 20_000, "\u3042" * 90_000, " " * 90_000])
def test_a_text_without_a_cut_is_tokenized_whole_and_once(tiny_checkpoint, characters, text):
    encoder = encoder_of(tiny_checkpoint("bert") / "tokenizer.json")
    assert encoder.characters_read([text], encoder.text_tokens) == [len(text)]
    encoder.encode_documents([text])
    assert characters == [len(text)]


def test_long_pieces_go_one_at_a_time_and_short_ones_beside_them(tiny_checkpoint, monkeypatch):
    encoder = encoder_of(tiny_checkpoint("bert") / "tokenizer.json")
    running, most, go_on = [], [], threading.Event()
    encode = TextReader._encode_batch

    def slow(self, texts, *, spans):
        if len(texts[0]) < 1000:
            return encode(self, texts, spans=spans)
        running.append(1)
        most.append(len(running))
        assert go_on.wait(20)
        running.pop()
        return encode(self, texts, spans=spans)

    monkeypatch.setattr(TextReader, "_encode_batch", slow)
    threads = [threading.Thread(target=encoder.encode_documents, args=(["x" * 300_000],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert encoder.encode_documents(["the river"]).full_lengths[0] >= 2
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert most == [1, 1, 1]

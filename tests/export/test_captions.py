"""A caption is a column or a template around columns, and nothing else of a value is ever read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.errors import Refused
from batchgen.export.captions import Caption

COLUMNS = ["image_id", "prompt", "style", "height", "my column"]
VALUES = {"image_id": "0", "prompt": "a cat {height}", "style": None, "height": 64, "my column": "x"}


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        (None, "a cat {height}"),
        ("prompt", "a cat {height}"),
        ("style", ""),
        ("height", "64"),
        ("my column", "x"),
        ("sks, {prompt}, {style}", "sks, a cat {height}, "),
        ("{{{my column}}} {height}{height}", "{x} 6464"),
    ],
)
def test_columns_and_templates(text, caption):
    assert Caption.of(text, COLUMNS)(VALUES) == caption


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("promt", ["--caption: the run has no column 'promt'. Did you mean prompt? There are: image_id, prompt"]),
        ("{promt} {stile}", ["'promt'. Did you mean prompt?", "'stile'. Did you mean style?", "2 problems"]),
        ("{prompt.__class__}", ["no column 'prompt.__class__'"]),
        ("{prompt[0]}", ["no column 'prompt[0]'"]),
        ("{prompt:>9}", ["--caption '{prompt:>9}' is no template", "the name of a column and no more"]),
        ("{prompt!r}", ["--caption '{prompt!r}' is no template"]),
        ("{}", ["--caption '{}' is no template"]),
        ("{prompt", ["--caption '{prompt' is no template"]),
        ("{{x}}", ["--caption '{{x}}' names no column: all rows would have the same. Write {prompt} in it."]),
    ],
)
def test_others_are_refused_by_the_name_of_the_option(text, messages):
    with pytest.raises(Refused) as refused:
        Caption.of(text, COLUMNS)
    for message in ["--caption", *messages]:
        assert message in str(refused.value)


@given(value=st.text(), before=st.text(), after=st.text())
def test_any_text_stands_as_it_is(value, before, after):
    doubled = [text.replace("{", "{{").replace("}", "}}") for text in (before, after)]
    caption = Caption.of("{prompt}".join(doubled), ["prompt"])
    assert caption({"prompt": value}) == before + value + after

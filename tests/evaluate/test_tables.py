"""A comparison as text says the same numbers everywhere, whatever its cells are called."""

import json
import re

import pytest

from batchgen.evaluate.comparison import compare
from batchgen.evaluate.document import to_json
from batchgen.evaluate.scores import About, write_part
from batchgen.evaluate.tables import latex, markdown
from batchgen.look.results import Results
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here

NASTY = r"a|b_{c}\ <i>&*50%* $x^2$ ~#"


@pytest.fixture
def comparison(make_job):
    """Two runs of 10 prompts, one of which is called something that is markup everywhere."""
    runs = []
    for name, guidance in ((NASTY, 1.0), ("good", 6.0)):
        rows = [{"prompt": f"p{n}", "seed": 100 * n, "category": f"c_{n % 2}"} for n in range(10)]
        sampling = {"guidance_scale": guidance, "num_images_per_prompt": 2}
        run = render_here(make_plan(prepare(make_job(rows, out=f"run-{guidance}", sampling=sampling)))[0])
        frame = Results(run.store.url).to_pandas()
        right = [float((row.seed // 100 + row.sample_index) % 5 < guidance / 2) for row in frame.itertuples()]
        right[0] = None if guidance == 1 else right[0]
        rows = [{"image_id": image_id, "score": one} for image_id, one in zip(frame["image_id"], right, strict=True)]
        write_part(run.store, About(scorer="oracle", version="3", low=0.0, high=1.0), rows)
        runs.append((name, run))
    return compare(runs)


def test_json_has_the_documented_keys(comparison):
    document = json.loads(to_json(comparison))
    assert document["schema"] == 1
    assert [cell["name"] for cell in document["cells"]] == [NASTY, "good"]
    assert document["cells"][1]["settings"]["guidance_scale"] == 6.0
    (scorer,) = document["scorers"]
    assert scorer["total"] == "subset 9/10"
    for result, standing in zip(scorer["results"], comparison.rankings[0].standings, strict=True):
        assert result["value"] == standing.value
        assert result["stderr"] == standing.stderr
        assert [result["interval"][key] for key in ("low", "high")] == [standing.interval.low, standing.interval.high]
        assert (result["n"], result["expected"], result["higher_is_better"]) == (9, 10, True)
        assert result["settings"]["num_images_per_prompt"] == 2
        assert result["versions"]["scorer"] == "3"
        assert set(result["categories"]) == {"c_0", "c_1"}
    assert scorer["results"][0]["bounds"][0] < scorer["results"][0]["bounds"][1]
    assert scorer["results"][1]["bounds"] is None
    (difference,) = scorer["differences"]
    assert difference["cell"] == "good"
    assert difference["against"] == NASTY
    assert {"p", "p_holm", "decided", "test", "detectable"} <= set(difference)
    assert len(scorer["category_differences"]) == 2


def test_every_key_of_the_document_is_documented(comparison):
    from batchgen.evaluate import document

    def keys(value):
        if isinstance(value, dict):
            for key, item in value.items():
                yield key
                if key not in ("settings", "swept", "versions", "categories"):
                    yield from keys(item)
        elif isinstance(value, list):
            for item in value:
                yield from keys(item)

    said = set(re.findall(r"[a-z_0-9]+", document.__doc__))
    assert set(keys(json.loads(to_json(comparison)))) - said == set()


def test_markdown_escapes_names_and_keeps_its_columns(comparison):
    text = markdown(comparison)
    blocks = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    assert len(blocks) >= 2
    for block in blocks:
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in block} == {len(re.findall(r"(?<!\\)\|", block[0]))}
    assert r"a\|b\_{c}\\ &lt;i&gt;&amp;\*50%\* &#36;x^2&#36; \~\#" in text
    assert "**good †**" in text
    assert f"{comparison.rankings[0].standings[1].value:.3f}" in text
    assert "9/10" in text
    assert "9 of 10 prompts are scored in all cells" in text


def test_latex_escapes_names_and_is_balanced(comparison):
    text = latex(comparison)
    assert r"a\textbar{}b\_\{c\}\textbackslash{} \textless{}i\textgreater{}\&*50\%* \$x\textasciicircum{}2\$" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") >= 2
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    for block in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        lines = [line for line in block.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1


def test_a_line_end_in_a_name_starts_no_line(comparison):
    from dataclasses import replace

    first = comparison.rankings[0]
    changed = replace(first, about=replace(first.about, scorer="x\n# title"))
    text = markdown(replace(comparison, rankings=(changed,)))
    assert "\n# title" not in text


def test_tables_name_the_families_and_the_interval(comparison):
    text = markdown(comparison)
    assert "Family: all against" in text
    assert "exploratory" in text
    assert "95 %, new prompts" in text
    assert "new seeds on these prompts" in text

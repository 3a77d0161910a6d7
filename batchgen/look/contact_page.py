"""One HTML file that shows a run: pictures, each with its prompts, settings and what no encoder read. Can be mailed.

Pictures are inside the file, as JPEG no larger than a screen shows them; whatever a prompt holds stays text. Knows the
run directory; reads its metadata and so many pictures as it shows.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import jinja2
import pyarrow.compute as pc

from batchgen.finalize.card import model_name
from batchgen.look import contact_sheet, pictures, sample
from batchgen.look.pictures import Seen
from batchgen.look.results import Results
from batchgen.look.sample import Block
from batchgen.run import images
from batchgen.run.directory import Run
from batchgen.run.images import Pixels
from batchgen.words import visible

PATH = "contact_sheet.html"
QUALITY = 90
ENCODERS = {"clip_l": "CLIP-L", "clip_g": "CLIP-G", "t5": "T5"}
LONG = 160  # characters of a text; of a longer one the beginning is shown, and the rest where somebody asks for it
FAILED, MOST_FAILED = ("image_id", "status", "prompt", "error_code", "error_message"), 200  # of a page to mail
HIDING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def write(run: Run, most: int = contact_sheet.MOST) -> str:
    """Write the page into the run directory; returns its path or URL."""
    run.store.replace(PATH, page_of(run, most))
    return f"{run.store}/{PATH}"


def page_of(run: Run, most: int = contact_sheet.MOST, by: str | None = None) -> bytes:
    """The page. by: the column by which pictures are grouped; without it the cells. Failures stand below."""
    failed, count = list[dict[str, Any]](), 0
    for table in Results(run.store.url).tables(FAILED):
        rows = table.filter(pc.equal(table["status"], "failed"))
        failed += rows.slice(0, max(MOST_FAILED - len(failed), 0)).to_pylist()
        count += len(rows)
    plan = run.plans[0]
    model = ", ".join(filter(None, [model_name(plan), plan.model.revision, plan.model.dtype]))
    chosen = sample.choose(run, most, by)
    seen = pictures.read(run, chosen.places)
    return page(contact_sheet.title(run, chosen, seen), model, chosen.blocks, seen, failed, count)


def page(
    title: str, model: str, blocks: Sequence[Block], seen: Seen, failed: Sequence[dict[str, Any]], count: int
) -> bytes:
    """failed: rows of metadata/, some of `count`; title, model: in words."""
    shown = {
        image_id: {"source": _inline(pixels), "row": row, "parameters": parameters(row), "unread": unread(row)}
        for image_id, (pixels, row) in seen.pictures.items()
    }
    jinja = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_unturned)
    values = {"title": title, "model": model, "blocks": blocks, "shown": shown, "failed": failed, "count": count}
    text = jinja.from_string(TEMPLATE).render(values, policy=POLICY, style=STYLE, long=LONG)
    return text.encode("utf-8", "replace")


def parameters(row: dict[str, Any]) -> str:
    """The settings of an image in one line, as far as they are known: of one that was made elsewhere, not all are."""
    asked = f" (asked for {row['requested_height']} × {row['requested_width']})" if row["requested_height"] else ""
    known = [
        f"{row['height']} × {row['width']}{asked}",
        *(_numbered("{} steps", row["num_inference_steps"])),
        *(_numbered("guidance {:g}", row["guidance_scale"])),
        *(_numbered("skip-layer guidance {:g}", row["skip_layer_guidance_scale"] or None)),
        *(_numbered("batch of {}", row["batch_size"])),
    ]
    return ", ".join(known)


def _numbered(text: str, value: float | None) -> list[str]:
    return [] if value is None else [text.format(value)]


def unread(row: dict[str, Any]) -> list[tuple[str, str]]:
    """For each text that was cut: (encoders, the part they did not read)."""
    cuts: dict[str, list[str]] = {}
    for encoder, name in ENCODERS.items():
        if (cut := row[f"truncated_{encoder}"]) is not None:
            cuts.setdefault(cut, []).append(name)
    return [(" and ".join(names), cut) for cut, names in cuts.items()]


def _unturned(value: Any) -> Any:
    """Text of others without what could turn round or hide the text beside it."""
    return HIDING.sub(lambda found: visible(found[0]), value) if type(value) is str else value


def _inline(pixels: Pixels) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(images.encode(pixels, "jpeg", QUALITY)).decode()


STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 16px; background: #e2e2e6; color: #1e1e1e }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(256px, 1fr)); gap: 16px }
figure { margin: 0; background: white; padding: 8px; overflow-wrap: anywhere }
img { width: 100%; height: auto; display: block }
figcaption div { margin: 6px 0 0 }
table { border-spacing: 16px; margin: -16px }
th, td { width: 256px; text-align: left; vertical-align: top; padding: 0; overflow-wrap: anywhere }
.small { color: #666; font-size: 12px }
.unread { color: #a00; font-size: 12px }
"""
# Whatever a prompt might smuggle in: the page loads nothing, runs nothing, and has no other style than this one.
POLICY = (
    "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
TEMPLATE = """\
{%- macro said(text) -%}
{%- if text | length > long %}<details><summary>{{ text[:long] }}…</summary>{{ text }}</details>
{%- else %}{{ text }}{% endif %}
{%- endmacro -%}
{%- macro figure(picture) -%}
{%- set row = picture.row %}
<figure>
<img src="{{ picture.source }}" alt="{{ row.prompt[:long] }}">
<figcaption>
<div>{{ said(row.prompt) }}</div>
{%- for name in ("prompt_2", "prompt_3", "negative_prompt") if row[name] %}
<div>{{ name }}: {{ said(row[name]) }}</div>
{%- endfor %}
{%- for encoders, cut in picture.unread %}
<div class="unread">{{ encoders }} did not read: {{ said(cut) }}</div>
{%- endfor %}
{%- if row.negative_overflow %}
<div class="unread">the negative prompt is cut</div>
{%- endif %}
{%- if row.suspect %}
<div class="unread">suspect: {{ row.suspect }}</div>
{%- endif %}
<div class="small">{% if row.seed is not none %}seed {{ row.seed }}, {% endif %}{{ picture.parameters }}
{%- if row.cell != "default" %}<br>cell {{ row.cell }}{% endif %}<br>{{ row.image_id }}</div>
</figcaption>
</figure>
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
<h1>{{ title }}</h1>
<p>{{ model }}</p>
{%- for block in blocks %}
{%- if block.title %}
<h2>{{ block.title }}</h2>
{%- endif %}
{%- if block.headings %}
<table>
<tr>{% for heading in block.headings %}<th>{{ heading }}</th>{% endfor %}</tr>
{%- for line in block.lines %}
<tr>
{%- for place in line %}
<td>{% if place is none %}{% elif place.image_id in shown %}{{ figure(shown[place.image_id]) }}
{%- else %}failed: {{ place.error_code }}{% endif %}</td>
{%- endfor %}
</tr>
{%- endfor %}
</table>
{%- else %}
<main>
{%- for line in block.lines %}{% for place in line if place.image_id in shown %}
{{- figure(shown[place.image_id]) }}
{%- endfor %}{% endfor %}
</main>
{%- endif %}
{%- endfor %}
{%- if failed %}
<h2>{{ count }} failed{% if count > failed | length %}, {{ failed | length }} of them:{% endif %}</h2>
<ul>
{%- for row in failed %}
<li>{{ said(row.prompt or "") }}: {{ row.error_code }}, {{ row.error_message }}
<span class="small">({{ row.image_id }})</span></li>
{%- endfor %}
</ul>
{%- endif %}
</html>
"""

"""A model behind an HTTP interface as a judge: any endpoint that speaks OpenAI's chat completions.

    endpoint: https://api.example.com/v1
    model: some-model-2026-01-01
    api_key_env: EXAMPLE_KEY            # name of an environment variable; the key itself stands nowhere
    question: 'Does the picture show "{prompt}"? Answer as JSON: {{"score": 0 to 1, "reason": "..."}}'

{prompt} and every other column of a row may stand in the question. The answer is a JSON object with a number `score`;
what else it holds is kept beside it. An answer is kept on this machine by all that it depends on, so that asking again
costs nothing; so is the version that the endpoint says it used. Knows HTTP, and no model.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from batchgen.errors import Infrastructure, Problem, Refused
from batchgen.evaluate.asked import asked
from batchgen.evaluate.scorer import Row, Score
from batchgen.evaluate.scores import About
from batchgen.run import images
from batchgen.run.images import Pixels
from batchgen.storage.mirror import cache_folder
from batchgen.weights.digests import sha256_of

BUSY = {408, 409, 425, 429, 500, 502, 503, 504}  # asking again may help
LONGEST_WAIT_S = 60.0


class Judgement(BaseModel):
    """The file. temperature is sent and recorded: 0 is as near to one answer for one picture as an endpoint comes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]
    model: Annotated[str, Field(min_length=1)]
    question: Annotated[str, Field(min_length=1)]
    name: str | None = None
    api_key_env: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 512
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    first_wait_s: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S)] = 1.0
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    at_once: Annotated[int, Field(ge=1, le=64)] = 4
    higher_is_better: bool = True
    low: float | None = None
    high: float | None = None


class Judge:
    def __init__(self, source: str) -> None:
        self._says = read_judgement(Path(source))
        says = self._says
        self.about = About(
            scorer=says.name or "judge-" + re.sub(r"[^a-z0-9._]+", "-", says.model.lower()).strip("-."),
            version="1",
            higher_is_better=says.higher_is_better,
            low=says.low,
            high=says.high,
            settings=says.model_dump(include={"endpoint", "model", "question", "temperature", "max_tokens"}),
        )

    def load(self, device: str | None) -> None:
        if (name := self._says.api_key_env) and not os.environ.get(name):
            raise Refused(f"{name}: is not set in the environment of this process, and the judge asks for a key there.")
        self._pool = ThreadPoolExecutor(self._says.at_once, thread_name_prefix="judge")

    def prepare(self, pixels: Pixels, row: Row) -> str:
        """What is asked, as the endpoint takes it."""
        question = self._says.question.format_map({**row, "prompt": asked(row)})
        picture = base64.b64encode(images.encode(pixels, "png")).decode()
        content = [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        ]
        says = self._says
        return json.dumps(
            {
                "model": says.model,
                "temperature": says.temperature,
                "max_tokens": says.max_tokens,
                "response_format": {"type": "json_object"},
                "messages": [{"role": "user", "content": content}],
            }
        )

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        return list(self._pool.map(self._judged, prepared))

    def _judged(self, body: str) -> Score:
        """An answer that cannot be read is this picture's error; an endpoint that cannot be reached ends the work."""
        asked_for = sha256_of(f"{self._says.endpoint} {body}".encode())
        kept = cache_folder() / "judge" / f"{asked_for}.json"
        try:
            answer = json.loads(kept.read_text())
        except (OSError, ValueError):
            answer = ask(self._says, body)
            score = read_answer(answer)
            if score.error is None:  # what could not be read is worth another question
                _keep(kept, answer)
            return score
        return read_answer(answer)


def read_judgement(file: Path) -> Judgement:
    """Raises Refused with everything that is wrong in the file."""
    try:
        return Judgement.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except OSError as error:
        raise Refused(f"{file}: cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise Refused(f"{file}: is no YAML ({error}).") from error
    except ValidationError as error:
        places = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
        raise Refused([Problem(message, f"{file}: {place}".removesuffix(": ")) for place, message in places]) from None


def ask(says: Judgement, body: str) -> dict[str, Any]:
    """The endpoint's answer. Raises Infrastructure where it gives none, after all retries."""
    headers = {"Content-Type": "application/json"}
    if says.api_key_env:
        headers["Authorization"] = f"Bearer {os.environ[says.api_key_env]}"
    request = urllib.request.Request(f"{says.endpoint.rstrip('/')}/chat/completions", body.encode(), headers)
    for attempt in range(says.retries + 1):
        try:
            with urllib.request.urlopen(request, timeout=says.timeout_s) as response:
                found: dict[str, Any] = json.loads(response.read())
                return found
        except (OSError, ValueError) as error:  # URLError, HTTPError and timeouts are OSErrors
            code = getattr(error, "code", None)
            if attempt == says.retries or (code is not None and code not in BUSY):
                said = f"HTTP {code}" if code else f"{type(error).__name__}: {error}"
                raise Infrastructure(
                    f"{says.endpoint}: gave no judgement in {attempt + 1} tries ({said}). What is judged is kept: run "
                    "the same command again."
                ) from error
        limit = min(LONGEST_WAIT_S, says.first_wait_s * 2**attempt)
        time.sleep(random.SystemRandom().uniform(limit / 2, limit))
    raise AssertionError("unreachable")


def read_answer(answer: Any) -> Score:
    """The number in a chat completion, with all that the judge said and the version that said it."""
    try:
        said = answer["choices"][0]["message"]["content"]
        values = json.loads(said)
        number = float(values.pop("score"))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        return Score(
            error=f"the judge's answer holds no JSON with a number 'score' ({type(error).__name__}): {answer!r:.300}"
        )
    version = {key: answer[key] for key in ("model", "system_fingerprint") if answer.get(key)}
    return Score(number, values | {"judge": version})


def _keep(file: Path, answer: dict[str, Any]) -> None:
    """Whole or not at all. A cache that cannot be written only costs more questions."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as opened:
            json.dump(answer, opened)
        Path(opened.name).replace(file)
    except OSError:
        return

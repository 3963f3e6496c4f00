"""Adapters that cannot be, posted to a serving engine of the starter: refused with the reason, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from app.engine.client import EngineClient, wait_for_endpoint
from app.engine.http.endpoint import Endpoint
from app.engine.requests import EngineRequest, columns_of, start_engine
from app.jobs import requests as jobs
from app.workspace import open_workspace
from tests.engine.test_loading import STARTER, resized
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING
ASK: list[dict[str, Any]] = [{"role": "user", "content": "What colour is grass?"}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    workspace = open_workspace(tmp_path_factory.mktemp("faults-workspace"))
    job = start_engine(workspace, EngineRequest("starter", {}, "none", "fp32"), token="secret")
    try:
        yield wait_for_endpoint(job, timeout_s=120)
    finally:
        jobs.stop(workspace, job)
        jobs.wait(job, timeout_s=30)


@pytest.fixture
def raw(served: Endpoint) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"bearer {served.token}"}
    with httpx.Client(base_url=served.url, headers=headers, trust_env=False, timeout=60) as made:
        yield made


def logits(raw: httpx.Client) -> Any:
    """Return what the base says, with the log-probabilities behind it."""
    body = {"model": "base", "messages": ASK, "temperature": 0, "max_tokens": 8, "logprobs": True, "top_logprobs": 5}
    answer = raw.post("/chat/completions", json=body)
    assert answer.status_code == 200
    return answer.json()["choices"][0]["logprobs"]


def test_refused_adapters_change_nothing_and_the_next_ones_are_served(
    served: Endpoint, raw: httpx.Client, tmp_path: Path
) -> None:
    before = logits(raw)
    refused = {
        "resized": (resized(tmp_path / "resized", STARTER, 2050), "2,050 tokens, the base's 2,048"),
        "repeated": (
            tiny_models.save_adapter(tmp_path / "repeated", STARTER, layer_replication=[[0, 3], [1, 4]]),
            "layer_replication",
        ),
    }
    for name, (folder, reason) in refused.items():
        answer = raw.post("/adapters", json={"name": name, "dir": str(folder)})
        assert answer.status_code == 400 and reason in answer.json()["error"]["message"]
        assert logits(raw) == before
    kinds: dict[str, dict[str, Any]] = {
        "head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        "dora": {"use_dora": True},
        "tied": {"target_modules": ["q_proj", "lm_head"]},
    }
    made = {name: tiny_models.save_adapter(tmp_path / name, STARTER, **kind) for name, kind in kinds.items()}
    with EngineClient(served) as client:
        for _ in range(2):
            for name, folder in made.items():
                client.load_adapter(name, str(folder))
                answered = columns_of(client.chat(name, ASK, temperature=0, max_tokens=8), [name])[0]
                assert answered.batched is (name == "tied") and answered.adapter_hash
                client.unload_adapter(name)
    assert logits(raw) == before


def test_null_fields_and_histories_through_the_official_client(served: Endpoint) -> None:
    with openai.OpenAI(base_url=served.url, api_key=served.token, max_retries=0) as client:
        nulls: dict[str, Any] = dict.fromkeys(
            ("n", "stream", "stream_options", "stop", "tools", "chat_template_kwargs")
        )
        answer = client.chat.completions.create(model="base", messages=ASK, max_tokens=2, extra_body=nulls)  # type: ignore[arg-type]
        assert answer.choices[0].message.role == "assistant"
        again = [*ASK, answer.choices[0].message, *ASK]
        client.chat.completions.create(model="base", messages=again, max_tokens=2)
        call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        with pytest.raises(openai.BadRequestError, match="no place for tool_calls"):
            client.chat.completions.create(
                model="base", messages=[*ASK, {"role": "assistant", "tool_calls": [call]}], max_tokens=2
            )  # type: ignore[call-overload]

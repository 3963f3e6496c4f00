"""The served engine, spoken to by the official client and by hand. One engine job serves all tests of this file."""

from __future__ import annotations

import concurrent.futures
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from app.engine.client import EngineClient, wait_for_endpoint
from app.engine.http import endpoint
from app.engine.http.endpoint import Endpoint
from app.engine.requests import BASE, EngineRequest, columns_of, start_engine
from app.errors import EngineError
from app.evaluation.conversation import Conversation
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory
from app.runs.engine_session import Choice, Server, Settings
from app.ui.shell.language import Translator
from app.ui.tabs.playground import chat
from app.workspace import Workspace, open_workspace
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING
TOKEN = "a-token-for-tests"
ASK = [{"role": "user", "content": "the small house"}]
NAMES = [BASE, "plain", "narrow", "rslora", "patterned", "dora"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return open_workspace(tmp_path_factory.mktemp("engine-workspace"))


@pytest.fixture(scope="module")
def job(workspace: Workspace, tiny_base: Path, tiny_adapters: dict[str, Path]) -> Iterator[JobDirectory]:
    adapters = {name: str(folder) for name, folder in tiny_adapters.items() if name != "head"}
    made = start_engine(workspace, EngineRequest(str(tiny_base), adapters, "none", "fp32"), token=TOKEN)
    try:
        wait_for_endpoint(made, timeout_s=120)
        yield made
    finally:
        jobs.stop(workspace, made)
        asked = time.monotonic()
        status = jobs.wait(made, timeout_s=30)
        assert status.state == "stopped" and time.monotonic() - asked < 5
        assert endpoint.read(made) is None


@pytest.fixture(scope="module")
def served(job: JobDirectory) -> Endpoint:
    return wait_for_endpoint(job)


@pytest.fixture
def client(served: Endpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served.url, api_key=served.token, max_retries=0) as made:
        yield made


@pytest.fixture
def raw(served: Endpoint) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {served.token}"}
    with httpx.Client(base_url=served.url, headers=headers, trust_env=False, timeout=60) as made:
        yield made


def test_the_endpoint_is_readable_by_its_owner_alone(job: JobDirectory, served: Endpoint) -> None:
    assert stat.S_IMODE((job.path / "endpoint.json").stat().st_mode) == 0o600
    assert served.token == TOKEN and psutil.pid_exists(served.pid)
    assert TOKEN not in job.job_file.read_text() and TOKEN not in job.log_file.read_text()
    assert TOKEN not in repr(served)


def test_an_idle_engine_is_idle(served: Endpoint) -> None:
    process = psutil.Process(served.pid)
    before = process.cpu_times()
    time.sleep(2.0)
    after = process.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) < 0.1


def test_models_lists_the_base_and_every_adapter(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == NAMES
    assert client.models.retrieve("plain").id == "plain"


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="plain", messages=ASK, temperature=0, max_tokens=8)  # type: ignore[arg-type]
    choice = answer.choices[0]
    facts = choice.workbench  # type: ignore[attr-defined]
    assert answer.usage is not None and answer.usage.completion_tokens == facts["tokens"] <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert choice.finish_reason in ("stop", "length") and choice.message.role == "assistant"
    assert len(facts["adapter_hash"]) == 12 and facts["batched"] is True
    assert facts["tokens_per_s"] > 0 and facts["time_to_first_token_s"] > 0


def test_a_streamed_answer_is_the_whole_one(client: openai.OpenAI) -> None:
    settings = {"model": "rslora", "messages": ASK, "temperature": 0, "max_tokens": 12}
    whole = client.chat.completions.create(**settings)
    pieces, counts = [], None
    for chunk in client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}):
        counts = chunk.usage or counts
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert counts is not None and counts.total_tokens == whole.usage.total_tokens
    # What was asked a moment ago is known but for its last token.
    assert counts.prompt_tokens_details.cached_tokens == whole.usage.prompt_tokens - 1


def test_columns_asked_at_once_are_the_columns_asked_alone(served: Endpoint) -> None:
    settings = {"temperature": 0, "max_tokens": 16}
    with EngineClient(served) as client:
        together = columns_of(client.chat_columns(NAMES, ASK, **settings), NAMES)
        alone = [columns_of(client.chat(name, ASK, **settings), [name])[0] for name in NAMES]
    assert [column.text for column in together] == [column.text for column in alone]
    assert [column.batched for column in together] == [True] * 5 + [False]
    assert len({column.adapter_hash for column in together}) == len(NAMES)
    assert together[0].adapter_hash == "" and len({column.text for column in together}) > 3


def test_a_seed_gives_the_same_text_and_another_seed_another(client: openai.OpenAI) -> None:
    def ask(seed: int) -> str | None:
        answer = client.chat.completions.create(model="plain", messages=ASK, max_tokens=24, seed=seed, temperature=1.5)  # type: ignore[arg-type]
        return answer.choices[0].message.content

    assert ask(7) == ask(7) != ask(8)


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="base", messages=ASK, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )  # type: ignore[call-overload]
    content = answer.choices[0].logprobs.content
    assert len(content) in (3, 4) and all(len(token.top_logprobs) == 3 for token in content)
    assert all(token.logprob == token.top_logprobs[0].logprob < 0 for token in content)


def test_several_choices_and_stop_strings(client: openai.OpenAI) -> None:
    settings = {"model": "plain", "messages": ASK, "max_tokens": 16, "seed": 3, "n": 3}
    answer = client.chat.completions.create(**settings)
    texts = [choice.message.content for choice in answer.choices]
    assert len(set(texts)) == 3
    full = next(text for text in texts if len(text) > 4)
    stop = full[2:4]
    cut = client.chat.completions.create(**settings, stop=[stop])
    assert cut.choices[texts.index(full)].message.content == full[: full.index(stop)]
    assert cut.choices[texts.index(full)].finish_reason == "stop"


def test_a_mix_answers_as_its_adapters_and_wrong_ones_are_refused(client: openai.OpenAI) -> None:
    def ask(mix: dict[str, float], model: str = BASE) -> tuple[str | None, dict[str, object]]:
        answer = client.chat.completions.create(  # type: ignore[call-overload]
            model=model, messages=ASK, temperature=0, max_tokens=10, extra_body={"mix": mix}
        )
        return answer.choices[0].message.content, answer.choices[0].workbench

    plain = client.chat.completions.create(model="plain", messages=ASK, temperature=0, max_tokens=10)  # type: ignore[arg-type]
    text, facts = ask({"plain": 1.0, "rslora": 0.0})
    assert text == plain.choices[0].message.content and facts["batched"] is True
    assert facts["mix"] == {"plain": 1.0, "rslora": 0.0}
    for mix, model in (({"dora": 1.0}, BASE), ({"base": 1.0}, BASE), ({"plain": 1.0}, "plain"), ({"plain": 1e9}, BASE)):
        with pytest.raises(openai.BadRequestError):
            ask(mix, model)
    with pytest.raises(openai.NotFoundError):
        ask({"nobody": 1.0})


def test_errors_have_the_protocol_s_form(client: openai.OpenAI, served: Endpoint) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="nobody", messages=ASK)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(model="base", messages=[{"role": "user", "content": "abc " * 3000}])
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model="base", messages=[])
    wrong = openai.OpenAI(base_url=served.url, api_key="wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": "base"}', b'{"model": 1, "messages": 2}', b"\xff\xfe"])
def test_bad_bodies_are_400(raw: httpx.Client, body: bytes) -> None:
    answer = raw.post("/chat/completions", content=body)
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/models", "/chat/completions", "/adapters", "/adapters/plain", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_every_route_wants_the_token_and_its_own_host(served: Endpoint, path: str, method: str) -> None:
    with httpx.Client(base_url=served.url, trust_env=False) as bare:
        assert bare.request(method, path).status_code == 401
        assert bare.request(method, path, headers={"Authorization": f"Bearer {TOKEN[:-1]}"}).status_code == 401
        own = {"Authorization": f"Bearer {TOKEN}"}
        for host in ("evil.example", "127.0.0.1.evil.com", "127.0.0.1:1@evil", "", "localhost.", "0.0.0.0"):
            assert bare.request(method, path, headers={**own, "Host": host}).status_code == 400


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_a_page_of_another_origin_is_refused_even_with_the_token(raw: httpx.Client, origin: str) -> None:
    answer = raw.get("/models", headers={"Origin": origin})
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "invalid_origin"
    assert raw.get("/models", headers={"Origin": str(raw.base_url).removesuffix("/v1/")}).status_code == 200


@pytest.mark.parametrize("folder", ["", "a\ud800", "a\0", "/tmp/" + "a" * 300, "a" * 5000])
def test_a_folder_that_cannot_be_is_a_plain_refusal(raw: httpx.Client, folder: str) -> None:
    answer = raw.post("/adapters", content=json.dumps({"name": "x", "dir": folder}))
    assert answer.status_code == 400 and "not an adapter" in answer.json()["error"]["message"]


def test_a_home_that_is_not_there_is_a_refusal_and_no_failure(raw: httpx.Client) -> None:
    answer = raw.post("/adapters", json={"name": "x", "dir": "~nobody-of-this-name/adapter"})
    assert answer.status_code == 400 and "home folder" in answer.json()["error"]["message"]


def test_health_and_unknown_routes(served: Endpoint, raw: httpx.Client) -> None:
    root = served.url.removesuffix("/v1")
    assert raw.get(f"{root}/health").json()["status"] == "ok"
    assert httpx.get(f"{root}/health", trust_env=False).status_code == 401
    assert raw.get("/nowhere").status_code == 404


def test_adapters_come_and_go_without_the_base(
    served: Endpoint, tiny_base: Path, tmp_path: Path, tiny_adapters: dict[str, Path]
) -> None:
    other = tiny_models.save_adapter(tmp_path / "late", tiny_base, seed=77)
    with EngineClient(served) as client:
        before = columns_of(client.chat("plain", ASK, temperature=0, max_tokens=8), ["plain"])[0].text
        client.load_adapter("late", str(other))
        assert [model.id for model in client.models()] == [*NAMES, "late"]
        late = columns_of(client.chat("late", ASK, temperature=0, max_tokens=8), ["late"])[0]
        with pytest.raises(EngineError, match="already"):
            client.load_adapter("late", str(other))
        client.unload_adapter("late")
        assert [model.id for model in client.models()] == NAMES
        after = columns_of(client.chat("plain", ASK, temperature=0, max_tokens=8), ["plain"])[0].text
        assert before == after != late.text
        with pytest.raises(EngineError, match="no adapter"):
            client.unload_adapter("late")
        with pytest.raises(EngineError, match="not an adapter"):
            client.load_adapter("broken", str(tmp_path))
        for name in ("nobody/no-such-adapter", "http://127.0.0.1/adapter", "nowhere"):
            with pytest.raises(EngineError, match=r"cannot be fetched|not opened|not an adapter"):
                client.load_adapter("hub", name)


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("n", 17, 400),
        ("n", 0, 400),
        ("tools", [{"type": "function"}], 400),
        ("logit_bias", {"5": 1}, 400),
        ("frequency_penalty", 0.5, 400),
        ("response_format", {"type": "json_object"}, 400),
        ("temperature", -1, 400),
        ("stop", ["x"] * 17, 400),
        ("top_logprobs", 21, 400),
        ("max_tokens", 0, 400),
        ("repetition_penalty", 1e-30, 400),
        ("tool_choice", "required", 400),
        ("min_tokens", 5, 400),
        ("structured_outputs", {"regex": "a"}, 400),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], 400),
        ("response_format", {"type": "text"}, 200),
        ("tool_choice", "none", 200),
        ("user", "me", 200),
        ("metadata", {"a": "b"}, 200),
        ("presence_penalty", 0, 200),
    ],
)
def test_what_is_not_offered_is_refused_by_name(raw: httpx.Client, field: str, value: object, status: int) -> None:
    body = {"model": "base", "messages": ASK, "max_tokens": 1, field: value}
    answer = raw.post("/chat/completions", json=body)
    assert answer.status_code == status
    if status == 400:
        error = answer.json()["error"]
        assert error["param"].startswith(field) and error["message"]


def test_a_stopped_stream_ends_within_a_token(served: Endpoint) -> None:
    settings = {"max_tokens": 400, "temperature": 2, "seed": 1}
    with EngineClient(served) as client:
        events = client.chat_columns(["plain", "base"], ASK, **settings)
        next(events)
        events.close()
        process = psutil.Process(served.pid)
        time.sleep(0.3)
        before = process.cpu_times()
        time.sleep(1.0)
        after = process.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) < 0.2


def test_the_page_takes_this_server_for_another_one(served: Endpoint, workspace: Workspace) -> None:
    server = Server.checked(served.url, TOKEN, "plain, base")
    assert server is not None
    settings = Settings(max_tokens=6, seed=0)
    choice = Choice(base=False, server=server)
    news = list(chat.ask(workspace, Conversation(), "the sea", choice, settings, Translator()))
    answers = news[-1].talk.turns[0].answers
    assert list(answers) == ["plain", "base"] and all(one.done and one.text for one in answers.values())
    wrong = Choice(base=False, server=Server(served.url, "wrong", ("plain",)))
    with pytest.raises(EngineError, match="token"):
        list(chat.ask(workspace, Conversation(), "the sea", wrong, settings, Translator()))


def test_a_client_that_leaves_frees_its_row(served: Endpoint, raw: httpx.Client) -> None:
    body = {"model": "plain", "messages": ASK, "max_tokens": 480, "stream": True, "temperature": 2, "seed": 1}
    body["stop"] = []
    process = psutil.Process(served.pid)
    with raw.stream("POST", "/chat/completions", json={**body, "n": 8}) as answer:
        next(answer.iter_lines())
    time.sleep(0.3)
    before = process.cpu_times()
    time.sleep(1.0)
    after = process.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) < 0.2


def test_concurrent_requests_are_all_answered(served: Endpoint) -> None:
    def ask(number: int) -> tuple[str, str]:
        name = NAMES[number % len(NAMES)]
        with EngineClient(served) as client:
            return name, columns_of(client.chat(name, ASK, temperature=0, max_tokens=10), [name])[0].text

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(24)))
    assert len(answers) == 24
    assert len(set(answers)) == len({name for name, _ in answers}) == len(NAMES)


@pytest.mark.slow
def test_fifty_streaming_clients_get_their_own_columns_and_memory_stays_flat(served: Endpoint) -> None:
    process, tokens, rounds = psutil.Process(served.pid), 24, 6
    asks = [f"the {word} house" for word in ("small", "old", "red", "far", "dry")]

    def ask(number: int) -> tuple[str, str, str]:
        name, prompt = NAMES[number % len(NAMES)], asks[number % len(asks)]
        messages = [{"role": "user", "content": prompt}]
        with EngineClient(served) as client:
            found = columns_of(client.chat(name, messages, temperature=0, max_tokens=tokens), [name])[0]
        assert found.tokens <= tokens
        return name, prompt, found.text

    expected = {(name, prompt): text for name, prompt, text in map(ask, range(len(NAMES) * len(asks)))}
    assert len(expected) == 30
    memory = []
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        for _ in range(rounds):
            answers = list(pool.map(ask, range(50)))
            assert len(answers) == 50
            assert [text for *_, text in answers] == [expected[name, prompt] for name, prompt, _ in answers]
            memory.append(process.memory_info().rss)
    assert memory[-1] - memory[1] < 20 << 20, memory

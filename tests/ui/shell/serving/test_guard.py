"""The request guard under raw requests of any shape: no crash, and nothing foreign comes through."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ui.shell.serving.guard import Guard, Rules, authorities

TOKEN = "a-long-test-token"
OURS = "127.0.0.1:7860"
HOSTS = authorities(("127.0.0.1", "localhost", "[::1]"), 7860)

# Near misses of our names, and bytes without any sense.
near_hosts = st.sampled_from(
    [
        *(b"127.0.0.1:7860", b"LOCALHOST:7860", b"[::1]:7860", b"127.0.0.1", b"127.0.0.1:07860", b"127.0.0.1:7860 "),
        *(b"127.0.0.1:7860.evil.example", b"evil.example", b"user@127.0.0.1:7860", b"127.0.0.1:7860,evil.example"),
        *(b"127.1:7860", b"2130706433:7860", b"", b"\x00", b"localhost:7860\x00", "ｌocalhost:7860".encode()),
    ]
)
hosts = st.lists(near_hosts | st.binary(max_size=30), max_size=3)
near_origins = st.sampled_from(
    [
        b"http://127.0.0.1:7860",
        b"http://127.0.0.1:7860/",
        b"https://127.0.0.1:7860",
        b"null",
        b"http://evil.example",
        b"",
    ]
)
origins = st.lists(near_origins | st.binary(max_size=30), max_size=2)
names = st.sampled_from(
    [
        *(b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"authorization", b"cookie", b"content-length"),
        *(b"Host", b"X-Forwarded-Host", b"Forwarded", b"Origin", b"transfer-encoding"),
    ]
)
values = st.sampled_from(
    [
        *(b"same-origin", b"cross-site", b"none", b"navigate", b"document", b"Bearer ", b"bearer wrong", b"Bearer\xff"),
        *(b"9" * 5000, b"-1", "²".encode("latin-1"), b"a=b; $Version=1; =;;", b"workbench-7860=\xff"),
    ]
)
headers = st.lists(st.tuples(names | st.binary(max_size=20), values | st.binary(max_size=60)), max_size=6)
paths = st.sampled_from(
    ["/", "", "*", "//", "/gradio_api/", "/gradio_api/queue/join", "/gradio_api/upload", "/assets/../../etc/passwd"]
) | st.text(max_size=40)
scopes = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["http", "websocket"]),
        "method": st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "", "get"]),
        "path": paths,
        "query_string": st.binary(max_size=60) | st.sampled_from([b"token=", b"token=%ff%00", b"token=a&token=b"]),
    }
)


def ask(rules: Rules, scope: dict[str, Any]) -> tuple[bool, list[dict[str, Any]]]:
    """Return whether the app behind the guard was reached, and what was sent."""
    reached, sent = False, []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal reached
        reached = True

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(Guard(app, rules)(scope, receive, send), 5))
    return reached, sent


def is_ours(hosts: list[bytes]) -> bool:
    """Tell whether there is one Host, and it is one of ours."""
    return len(hosts) == 1 and hosts[0].lower() in {one.encode() for one in HOSTS}


@settings(max_examples=400, deadline=5000)
@given(scope=scopes, hosts=hosts, origins=origins, rest=headers, token=st.sampled_from([None, TOKEN]))
def test_nothing_foreign_comes_through(
    scope: dict[str, Any], hosts: list[bytes], origins: list[bytes], rest: list[tuple[bytes, bytes]], token: str | None
) -> None:
    lines = [*((b"host", one) for one in hosts), *((b"origin", one) for one in origins), *rest]
    reached, sent = ask(Rules(HOSTS, token), {**scope, "headers": lines})
    every_host = [value for name, value in lines if name.lower() == b"host"]
    every_origin = [value for name, value in lines if name.lower() == b"origin"]
    if reached:
        assert is_ours(every_host)
        assert every_origin in ([], [b"http://" + every_host[0]])
        assert token is None  # nobody knows it
    else:
        status = [one["status"] for one in sent if one["type"] == "http.response.start"]
        assert status or [one["type"] for one in sent] == ["websocket.close"]
        assert all(300 <= one < 500 for one in status)
        assert 303 not in status or is_ours(every_host)


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("Bearer ", True),
        ("bearer ", True),
        ("BEARER  ", True),
        ("Basic ", False),
        ("", False),
        ("Bearer", False),
    ],
)
def test_the_name_of_the_scheme_has_no_case(value: str, right: bool) -> None:
    lines = [(b"host", OURS.encode()), (b"authorization", value.encode() + TOKEN.encode())]
    scope = {"type": "http", "method": "GET", "path": "/config", "query_string": b"", "headers": lines}
    assert ask(Rules(HOSTS, TOKEN), scope)[0] is right


def test_an_empty_token_in_a_header_is_none() -> None:
    lines = [(b"host", OURS.encode()), (b"authorization", b"Bearer ")]
    scope = {"type": "http", "method": "GET", "path": "/config", "query_string": b"", "headers": lines}
    assert not ask(Rules(HOSTS, TOKEN), scope)[0]


@pytest.mark.parametrize("length", [b"9" * 5000, b"9" * 20])
def test_an_endless_length_is_too_large(length: bytes) -> None:
    lines = [(b"host", OURS.encode()), (b"content-length", length)]
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"", "headers": lines}
    reached, sent = ask(Rules(HOSTS), scope)
    assert not reached and sent[0]["status"] == 413


PROXY = "k1-7860.notebook.example"


@pytest.mark.parametrize(
    ("host", "origin", "proxy", "right"),
    [
        (PROXY, None, PROXY, True),
        (PROXY.upper(), f"https://{PROXY}", PROXY, True),
        (OURS, f"https://{PROXY}", PROXY, True),  # a proxy that names us as the host
        (OURS, f"http://{OURS}", PROXY, True),
        (PROXY, f"http://{PROXY}", PROXY, True),
        (OURS, f"http://{PROXY}", PROXY, False),
        (PROXY, "https://evil.example", PROXY, False),
        (PROXY, "null", PROXY, False),
        (f"{PROXY}.evil.example", None, PROXY, False),
        (f"{PROXY}:443", None, PROXY, False),
        ("evil.example", f"https://{PROXY}", PROXY, False),
        (PROXY, None, "", False),
        (OURS, f"https://{PROXY}", "", False),
        ("", None, "", False),
    ],
)
def test_a_proxy_is_let_through_by_its_whole_name_alone(host: str, origin: str | None, proxy: str, right: bool) -> None:
    lines = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
    for token, known in ((TOKEN, True), ("wrong", False)):
        mine = (b"authorization", f"Bearer {token}".encode())
        scope = {"type": "http", "method": "GET", "path": "/config", "query_string": b"", "headers": [*lines, mine]}
        assert ask(Rules(HOSTS, TOKEN, proxy=proxy), scope)[0] is (right and known)

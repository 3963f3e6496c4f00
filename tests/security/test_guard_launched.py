"""Attacks on the really launched page, with raw sockets: rebinding, origins, framing, uploads, files, tokens."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.ui.running_page import TOKEN, RunningPage

FOREIGN_HOSTS = [
    "evil.example",
    "127.0.0.1.evil.com:{port}",
    "127.0.0.1:{port}@evil",
    "localhost.:{port}",
    "0.0.0.0:{port}",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.0.0.1:{port}.",
    "127.0.0.1:{port} ",
    "[::1]:{port}@evil",
    "127.1:{port}",
    "2130706433:{port}",
    "",
]
ODD_NAMES = ["../../x.jsonl", "..\\..\\x.jsonl", "a" * 300 + ".jsonl", "CON", "-rf.jsonl", "\u202egnp.jsonl"]
ODD_NAMES += ["x.html", "x.svg", "x.py"]
FOREIGN_ORIGINS = ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}", ""]
# Every kind of route that the framework has, used by the page or not.
READ_ROUTES = [
    "/",
    "/config",
    "/theme.css",
    "/gradio_api/info",
    "/gradio_api/startup-events",
    "/gradio_api/app_id",
    "/gradio_api/token",
    "/gradio_api/queue/data?session_hash=x",
    "/gradio_api/heartbeat/x",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/upload_progress?upload_id=x",
    "/gradio_api/call/x/y",
    "/gradio_api/openapi.json",
    "/gradio_api/deep_link?session_hash=x",
    "/gradio_api/runs",
    "/gradio_api/vibe-code",
    "/gradio_api/proxy=https://example.hf.space/",
    "/monitoring",
    "/monitoring/summary",
    "/manifest.json",
    "/favicon.ico",
    "/robots.txt",
    "/static/img/logo.svg",
    "/assets/index.js",
    "/svelte/svelte.js",
    "/openapi.json",
    "/docs",
]
WRITE_ROUTES = [
    "/gradio_api/queue/join",
    "/gradio_api/upload",
    "/gradio_api/run/x",
    "/gradio_api/call/x",
    "/gradio_api/api/x",
    "/gradio_api/reset",
    "/gradio_api/cancel",
    "/gradio_api/component_server",
    "/gradio_api/vibe-edit",
    "/gradio_api/run-history/connect",
    "/gradio_api/process_recording",
    "/gradio_api/stream/x",
    "/login",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    with RunningPage(tmp_path_factory.mktemp("guard") / "workspace") as running:
        yield running


@pytest.fixture(scope="module")
def locked_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    with RunningPage(tmp_path_factory.mktemp("locked") / "workspace", "--token", TOKEN) as running:
        yield running


def uploads(page: RunningPage) -> list[Path]:
    return [path for path in (page.workspace / "uploads").rglob("*") if path.is_file()]


def multipart(name: str, content: bytes) -> tuple[str, bytes]:
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="files"; filename="'
        + name.encode()
        + b'"\r\nContent-Type: application/octet-stream\r\n\r\n'
        + content
        + b"\r\n--xyz--\r\n"
    )
    return "Content-Type: multipart/form-data; boundary=xyz", body


def listed_routes(page: RunningPage) -> list[str]:
    """Return the handlers that the page itself lists, as routes."""
    config = json.loads(page.get("/config").body)
    return [f"/gradio_api/run/{dependency['id']}" for dependency in config["dependencies"]]


def test_our_own_names_are_answered(page: RunningPage) -> None:
    for name in ("127.0.0.1", "localhost", "[::1]"):
        assert page.get("/", host=f"{name}:{page.port}").status == 200
    assert json.loads(page.get("/config").body)["dependencies"]


@pytest.mark.fault("A1")
def test_every_route_refuses_a_foreign_host(page: RunningPage) -> None:
    for route in [*READ_ROUTES, *WRITE_ROUTES, *listed_routes(page)]:
        method = "GET" if route in READ_ROUTES else "POST"
        assert page.get(route, method=method, host="evil.example").status == 403, route


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.fault("A1")
def test_a_host_that_only_resembles_ours_is_refused(page: RunningPage, host: str) -> None:
    stripped = host.format(port=page.port)
    expected = (200,) if stripped.strip() == page.address else (400, 403)
    assert page.get("/config", host=stripped).status in expected


@pytest.mark.fault("A1")
def test_two_hosts_and_no_host_are_refused(page: RunningPage) -> None:
    assert page.get("/config", f"Host: {page.address}").status in (400, 403)
    assert page.get("/config", "Host: evil.example").status in (400, 403)
    assert page.request(b"GET /config HTTP/1.1\r\nConnection: close\r\n\r\n").status in (400, 403)
    assert page.request(b"GET /config HTTP/1.0\r\n\r\n").status in (400, 403)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}", ""]
)
@pytest.mark.parametrize("route", WRITE_ROUTES)
@pytest.mark.fault("A2")
def test_a_foreign_origin_cannot_write(page: RunningPage, route: str, origin: str) -> None:
    kind, body = multipart("a.txt", b"foreign")
    answer = page.get(route, f"Origin: {origin.format(port=page.port)}", kind, method="POST", body=body)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
    assert not uploads(page)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.fault("A2")
def test_a_foreign_page_cannot_call_a_handler(page: RunningPage, kind: str) -> None:
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"}).encode()
    for header in ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: http://evil.example"):
        answer = page.get("/gradio_api/queue/join", header, f"Content-Type: {kind}", method="POST", body=body)
        assert answer.status == 403


def test_the_page_itself_may_write(page: RunningPage) -> None:
    kind, body = multipart("rows.jsonl", b'{"a": 1}')
    own = f"Origin: http://{page.address}"
    answer = page.get("/gradio_api/upload", own, "Sec-Fetch-Site: same-origin", kind, method="POST", body=body)
    assert answer.status == 200
    for path in uploads(page):
        path.unlink()


@pytest.mark.fault("A3")
def test_no_answer_grants_a_foreign_origin(page: RunningPage) -> None:
    for route in READ_ROUTES:
        for origin in ("http://evil.example", "null", "http://localhost:1"):
            answer = page.get(route, f"Origin: {origin}")
            assert not [name for name in answer.headers if name.startswith("access-control-")], (route, origin)
    preflight = page.get(
        "/gradio_api/queue/join", "Origin: http://evil.example", "Access-Control-Request-Method: POST", method="OPTIONS"
    )
    assert preflight.status == 403
    assert "access-control-allow-origin" not in preflight.headers


def test_a_followed_link_opens_the_page_and_nothing_else(page: RunningPage) -> None:
    link = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
    assert page.get("/", *link).status == 200
    assert page.get("/config", *link).status == 403
    assert (
        page.get("/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe").status == 403
    )


@pytest.mark.fault("A4")
def test_every_answer_forbids_framing_and_sniffing(page: RunningPage) -> None:
    for answer in (page.get("/"), page.get("/config"), page.get("/nothing"), page.get("/", host="evil.example")):
        assert answer.headers["x-frame-options"] == ["DENY"]
        assert answer.headers["x-content-type-options"] == ["nosniff"]
        assert answer.headers["referrer-policy"] == ["no-referrer"]
        (policy,) = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "connect-src 'self'" in policy and "http" not in policy


def test_routes_without_a_use_do_not_exist(page: RunningPage) -> None:
    for route in ("/monitoring", "/monitoring/summary", "/openapi.json", "/docs", "/login", "/gradio_api/vibe-code"):
        assert page.get(route).status == 404, route
    assert page.get("/gradio_api/proxy=https://example.hf.space/").status == 404
    assert page.get("/gradio_api/run-history/connect", method="POST", body=b"{}").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../etc/passwd",
        "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "{workspace}/page.json",
        "{workspace}/jobs/x/job.yaml",
        "{workspace}/uploads/.incoming/../../page.json",
        "{house}/requirements.txt",
        "file:///etc/passwd",
        "http://127.0.0.1:{port}/config",
        "http://169.254.169.254/latest/meta-data",
    ],
)
@pytest.mark.fault("A7")
def test_the_file_route_serves_nothing_of_this_machine(page: RunningPage, path: str) -> None:
    house = Path(__file__).resolve().parents[2]
    filled = path.format(workspace=page.workspace, house=house, port=page.port)
    assert page.get(f"/gradio_api/file={filled}").status in (403, 404)


@pytest.mark.parametrize("folder", ["/assets/", "/static/", "/svelte/"])
@pytest.mark.fault("A7")
def test_folders_of_the_page_cannot_be_left(page: RunningPage, folder: str) -> None:
    for path in ("../../../../../etc/passwd", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "..%2f..%2f..%2fetc/passwd"):
        answer = page.get(folder + path)
        assert answer.status in (403, 404)
        assert b"root:" not in answer.body


@pytest.mark.fault("A7")
def test_a_link_in_the_uploads_is_not_followed_out(page: RunningPage) -> None:
    incoming = page.workspace / "uploads" / ".incoming" / ("a" * 64)
    incoming.mkdir(parents=True, exist_ok=True)
    (incoming / "link.txt").symlink_to("/etc/passwd")
    answer = page.get(f"/gradio_api/file={incoming / 'link.txt'}")
    (incoming / "link.txt").unlink()
    assert answer.status in (403, 404)


@pytest.mark.fault("A8")
def test_a_body_over_the_limit_is_refused_before_it_is_read(page: RunningPage) -> None:
    kind = "Content-Type: multipart/form-data; boundary=xyz"
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {page.address}\r\n{kind}\r\nContent-Length: {2 << 30}\r\n\r\n"
    assert page.request(head.encode()).status == 413
    head = f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: {page.address}\r\nContent-Length: {64 << 20}\r\n\r\n"
    assert page.request(head.encode()).status == 413


def test_a_body_that_grows_over_the_limit_is_refused(page: RunningPage) -> None:
    head = (
        f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: {page.address}\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()
    piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    assert page.request(head + piece * 40 + b"0\r\n\r\n", timeout_s=30).status == 413


@pytest.mark.parametrize(
    "name",
    [
        "../../x.jsonl",
        "..\\..\\x.jsonl",
        "a" * 300 + ".jsonl",
        "CON",
        "-rf.jsonl",
        "\u202egnp.jsonl",
        "x.html",
        "x.svg",
        "x.py",
    ],
)
@pytest.mark.fault("A8")
def test_an_uploaded_name_stays_inside(page: RunningPage, name: str) -> None:
    kind, body = multipart(name, b"<script>alert(1)</script>")
    answer = page.get("/gradio_api/upload", kind, method="POST", body=body)
    assert answer.status in (200, 400, 413, 422)
    incoming = page.workspace / "uploads" / ".incoming"
    for path in uploads(page):
        assert incoming in path.parents
    if answer.status == 200:
        (stored,) = json.loads(answer.body)
        served = page.get(f"/gradio_api/file={quote(stored)}")
        if served.status == 200 and Path(stored).suffix in (".html", ".svg", ".py"):
            assert "attachment" in "".join(served.headers.get("content-disposition", []))
    for path in uploads(page):
        path.unlink()


@pytest.mark.fault("A8")
def test_an_upload_of_ten_thousand_files_is_refused(page: RunningPage) -> None:
    part = b'--xyz\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx\r\n'
    kind = "Content-Type: multipart/form-data; boundary=xyz"
    answer = page.get("/gradio_api/upload", kind, method="POST", body=part * 10_000 + b"--xyz--\r\n")
    assert answer.status in (400, 413, 422)
    for path in uploads(page):
        path.unlink()


@pytest.mark.fault("A8")
def test_an_upload_that_ends_early_leaves_nothing(page: RunningPage) -> None:
    """What a closed tab had sent so far would otherwise lie on the disk until the page is started again."""
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {page.address}\r\nContent-Length: {400 << 20}\r\n"
        "Content-Type: multipart/form-data; boundary=xyz\r\n\r\n"
        '--xyz\r\nContent-Disposition: form-data; name="files"; filename="a.jsonl"\r\n\r\n'
    ).encode()
    with closing(socket.create_connection(("127.0.0.1", page.port), timeout=10)) as connection:
        connection.sendall(head + b"x" * (4 << 20))
        assert reached(lambda: bool(uploads(page))), "the upload never began"
    assert reached(lambda: not uploads(page)), f"these were left behind: {uploads(page)}"


def reached(state: Callable[[], bool], patience_s: float = 30.0) -> bool:
    end = time.monotonic() + patience_s
    while not state() and time.monotonic() < end:
        time.sleep(0.02)
    return state()


@pytest.mark.fault("A5")
def test_every_route_needs_the_token(locked_page: RunningPage) -> None:
    for route in READ_ROUTES:
        assert locked_page.get(route).status == 401, route
    for route in WRITE_ROUTES:
        kind, body = multipart("a.txt", b"x")
        assert locked_page.get(route, kind, method="POST", body=body).status == 401, route
    assert not uploads(locked_page)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], TOKEN.upper()])
def test_a_wrong_token_opens_nothing(locked_page: RunningPage, token: str) -> None:
    assert locked_page.get(f"/?token={token}").status == 401
    assert locked_page.get("/config", f"Authorization: Bearer {token}").status == 401
    assert locked_page.get("/config", f"Cookie: workbench-{locked_page.port}={token}").status == 401
    assert locked_page.get("/config", f"Cookie: workbench-{locked_page.port}={TOKEN}").status == 401


def test_the_token_is_given_once_and_kept_in_a_cookie(locked_page: RunningPage) -> None:
    first = locked_page.get(f"/?token={TOKEN}")
    assert first.status == 303
    assert first.headers["location"] == ["/"]
    (cookie,) = first.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    pair = cookie.partition(";")[0]
    assert locked_page.get("/", f"Cookie: {pair}").status == 200
    assert locked_page.get("/config", f"Cookie: other=1; {pair}").status == 200
    assert locked_page.get("/config", f"Authorization: Bearer {TOKEN}").status == 200
    assert locked_page.get("/config", f"Cookie: {pair}", host="evil.example").status == 403


def test_the_token_is_not_said(locked_page: RunningPage) -> None:
    assert TOKEN not in locked_page.said
    assert not [
        path for path in locked_page.workspace.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]


def test_one_line_says_the_address(page: RunningPage) -> None:
    assert len(re.findall(re.escape(page.url), page.said)) == 1

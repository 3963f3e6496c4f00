"""How soon the page is there and answers, and what it costs, beside a bare Gradio page in the same run.

Run: python -m benchmarks.page_speed [--rounds 3] [--idle 15] [--out benchmarks/results/page_speed.json]

Both pages are opened in turn in fresh browser profiles: the time until the page can be used, requests, bytes on the
wire, and Chromium's own score of layout shifts. Then each is left alone, and the processor time of its server and of
the whole browser is read from the system. Clicks are those of `ten_pages`, in one page: idle, and while the bundled
starter is trained. Times are of the wall clock in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from app.workspace import open_workspace
from benchmarks.ten_pages import READY, in_turn, interrupted, make_click, training
from tests.browser.conftest import browser_path
from tests.ui.running_page import RunningPage, free_port

ROOT = Path(__file__).resolve().parent.parent
_PATIENCE_MS = 120_000
_BARE = """
import gradio as gr
with gr.Blocks(analytics_enabled=False) as page:
    name, said = gr.Textbox(label="Name"), gr.Textbox(label="Said")
    gr.Button("Say", elem_id="say").click(lambda text: text, name, said)
page.launch(server_name="127.0.0.1", server_port={port}, quiet=True, share=False, ssr_mode=False)
"""
_SHIFTS = """() => new Promise((done) => {
  new PerformanceObserver((list) => done(list.getEntries().reduce((sum, one) => sum + one.value, 0)))
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(0), 500);
})"""


@dataclass(frozen=True)
class Served:
    """A page that is served: its address, its server's process, and what stands in it once it can be used."""

    url: str
    pid: int
    ready: tuple[str, ...]


@contextmanager
def bare() -> Iterator[Served]:
    """Serve a page of the framework with two boxes and a button."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _BARE.format(port=port)], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with suppress(OSError), urlopen(url):
                break
            time.sleep(0.2)
        yield Served(url, process.pid, ("#say",))
    finally:
        process.terminate()
        process.wait(timeout=20)


def opened(context: BrowserContext, served: Served) -> tuple[Page, dict[str, float]]:
    """Open a page; return it with the milliseconds until it can be used, and its requests and bytes a moment later."""
    page = context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    network, sizes = context.new_cdp_session(page), list[float]()
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda one: sizes.append(one["encodedDataLength"]))
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    began = time.perf_counter()
    page.goto(served.url)
    for place in served.ready:
        page.wait_for_selector(place)
    took = 1000 * (time.perf_counter() - began)
    page.wait_for_timeout(2000)
    figures = {"first_page_ms": took, "requests": float(len(asked)), "kilobytes": sum(sizes) / 1000}
    return page, {**figures, "layout_shift": page.evaluate(_SHIFTS)}


def first_page(browser: Browser, served: Served, width: int) -> dict[str, float]:
    """Open a page in a profile of its own and return its figures."""
    context = browser.new_context(viewport={"width": width, "height": 900}, locale="en-US")
    figures = opened(context, served)[1]
    context.close()
    return figures


def _processor_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def idle(browser: Browser, served: Served, seconds: float) -> dict[str, float]:
    """Leave a page alone and return the per cent of a core that its server and the browser take."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
    page, _ = opened(context, served)
    page.wait_for_timeout(3000)
    servers = [psutil.Process(served.pid)]
    everything = psutil.Process().children(recursive=True)
    browsers = [one for one in everything if "chrom" in one.name() and one.status() != psutil.STATUS_ZOMBIE]
    before, began = (_processor_s(servers), _processor_s(browsers)), time.perf_counter()
    page.wait_for_timeout(1000 * seconds)
    took = time.perf_counter() - began
    server, viewer = _processor_s(servers) - before[0], _processor_s(browsers) - before[1]
    context.close()
    return {"server_percent": round(100 * server / took, 1), "browser_percent": round(100 * viewer / took, 1)}


def clicks(browser: Browser, served: Served, rounds: int) -> dict[str, object]:
    """Make every click in one page, as often as there are rounds, and return median, p95 and the slowest."""
    times: list[tuple[str, float]] = []
    for _ in range(rounds):
        context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
        page, _ = opened(context, served)
        for page_, click in in_turn([page]):
            times.append((click.name, make_click(page_, click)))
        context.close()
    found = sorted(took for _, took in times)
    p95 = found[min(len(found) - 1, int(0.95 * len(found)))]
    slowest = max(times, key=lambda one: one[1])
    return {"clicks": len(found), "median_ms": round(statistics.median(found)), "p95_ms": round(p95)} | {
        "slowest_ms": round(slowest[1]),
        "slowest": slowest[0],
    }


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(one[name] for one in found), 4) for name in found[0]}


def measure(rounds: int, idle_s: float) -> dict[str, Any]:
    """Return the whole table."""
    folder = Path(tempfile.mkdtemp(prefix="page-speed-"))
    try:
        with RunningPage(folder / "workspace") as running, bare() as plain, sync_playwright() as driver:
            assert running.process is not None
            ours = Served(running.url, running.process.pid, READY)
            args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
            path = browser_path() or driver.chromium.executable_path
            browser = driver.chromium.launch(executable_path=path, args=args)
            pages = {"workbench": ours, "bare": plain}
            opening: dict[str, list[dict[str, float]]] = {name: [] for name in pages}
            for _ in range(rounds):  # in turn, so that what else the machine does falls on both
                for name, served in pages.items():
                    opening[name].append(first_page(browser, served, 1440))
            table: dict[str, Any] = {name: _medians(found) for name, found in opening.items()}
            pairs = zip(opening["workbench"], opening["bare"], strict=True)
            ratio = statistics.median(mine["first_page_ms"] / its["first_page_ms"] for mine, its in pairs)
            table["first_page_ratio"] = round(ratio, 2)
            table["layout_shift_390"] = round(first_page(browser, ours, 390)["layout_shift"], 4)
            for name, served in pages.items():
                table[name] |= idle(browser, served, idle_s)
            workspace = open_workspace(running.workspace)
            with training(workspace) as job:
                table["clicks_during_a_run"] = clicks(browser, ours, rounds)
                table["run_was_going"] = job.status().live
            table["clicks_idle"] = clicks(browser, ours, rounds)
            browser.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {**table, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}


def main() -> int:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=15.0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "page_speed.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    found = measure(options.rounds, options.idle)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure the time from the command to the first page, beside a bare Gradio page of four tabs.

    python -m benchmarks.startup --rounds 7 --out startup.json

Both are started the same way, in turn, each in a process of its own, and asked for `/` until it answers 200. The pair
is repeated and the medians compared, so that what else the machine does falls on both. The bound is 1.5 times the bare
page.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
MOST_TIMES_BARE = 1.5
_POLL_S = 0.02
_PATIENCE_S = 120.0
_BARE = """
import sys
import gradio as gr

with gr.Blocks() as page, gr.Tabs():
    for name in ("Plan", "Data", "Train", "Playground"):
        with gr.Tab(name):
            said, answer = gr.Textbox(label="In"), gr.Textbox(label="Out")
            gr.Button("Go").click(lambda text: text, said, answer)
page.launch(server_port=int(sys.argv[1]), quiet=True)
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_page_s(command: list[str], port: int) -> float:
    """Return the seconds from starting a command to its first page."""
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=HOUSE, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - began > _PATIENCE_S:
                raise RuntimeError(f"{command} gave no page")
            time.sleep(_POLL_S)
        return time.perf_counter() - began
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200
        except (OSError, http.client.HTTPException):
            return False


def bare_s() -> float:
    """Return the time of the bare page."""
    port = free_port()
    return first_page_s([sys.executable, "-c", _BARE, str(port)], port)


def workbench_s(workspace: Path) -> float:
    """Return the time of the workbench on an existing, empty workspace."""
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "ui", "--no-browser", "--port", str(port)]
    return first_page_s([*command, "--workspace", str(workspace)], port)


def measure(rounds: int) -> dict[str, object]:
    """Return all times, their medians and the median of the paired ratios. One round before is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        bare_s(), workbench_s(Path(folder))
        pairs = [(bare_s(), workbench_s(Path(folder))) for _ in range(rounds)]
    bare, ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "bare_s": [round(value, 3) for value in bare],
        "workbench_s": [round(value, 3) for value in ours],
        "bare_median_s": round(statistics.median(bare), 3),
        "workbench_median_s": round(statistics.median(ours), 3),
        "ratio_median": round(statistics.median(one / other for other, one in pairs), 3),
        "bound": MOST_TIMES_BARE,
        "machine": {"cpu_count": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()},
    }


def main() -> int:
    """Measure, print, and fail when the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    found = measure(arguments.rounds)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 0 if float(str(found["ratio_median"])) <= MOST_TIMES_BARE else 1


if __name__ == "__main__":
    sys.exit(main())

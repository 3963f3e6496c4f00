"""`ui`: the workbench in the browser."""

from __future__ import annotations

import argparse

from app.cli.terminal import Verbs, port, workspace_of


def register(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "ui",
        run,
        help="open the workbench in the browser (the verb when none is named)",
        example="python3 launch.py ui --port 7861",
        answers=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than loopback need --token")
    parser.add_argument("--port", type=port, default=7860, help="port to listen on (default 7860)")
    parser.add_argument("--token", help="secret that every request must carry")
    parser.add_argument(
        "--behind",
        default="",
        metavar="URL",
        help="https address of a proxy that leads here, as a notebook has it; needs --token",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C; runs go on without it."""
    workspace = workspace_of(arguments)
    from app.ui.shell.serving.server import serve  # gradio takes seconds to import: only this verb pays for it

    serve(
        workspace,
        host=arguments.host,
        port=arguments.port,
        token=arguments.token,
        open_browser=not arguments.no_browser,
        behind=arguments.behind,
    )

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.models.names import STARTER, resolve

HUB_ID = "someone/fetched-before"
# The hub of this test refuses every connection at once; what matters is that no library asks it again and again.
LOAD = """
import socket, sys
asked = []
socket.getaddrinfo = lambda host, *rest, **more: (asked.append(host), (_ for _ in ()).throw(socket.gaierror("down")))[1]
from app.models.loading import load_config, load_tokenizer
from app.models.adapter_files import locate
print(load_config(sys.argv[1]).model_type, len(load_tokenizer(sys.argv[1])))
print(len(asked))
from app.errors import NetworkError
for name, load in (("someone/never-seen", load_config), ("someone/an-adapter", locate)):
    try:
        load(name)
    except NetworkError as error:
        print(error.line())
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the hub with one model in it, as huggingface_hub lays it out."""
    home = tmp_path_factory.mktemp("hub")
    folder = home / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    shutil.copytree(resolve(STARTER), folder / "snapshots" / "abc123")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc123")
    return home


def test_a_fetched_model_is_loaded_without_a_network_and_without_asking_for_each_file(cache: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    ran = subprocess.run(
        [sys.executable, "-c", LOAD, HUB_ID],
        env={**environment, "HF_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    loaded, asked, *refusals = ran.stdout.splitlines()
    assert loaded.startswith("qwen3 ")
    assert int(asked) <= 8  # one short question for each of two calls, with the client's own look at its addresses
    assert len(refusals) == 2
    assert all("the hub cannot be reached" in line and "HF_HUB_OFFLINE" not in line for line in refusals)

"""The README's commands, run as a reader would, in an empty workspace and without a network."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
README = (HOUSE / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python3 launch.py")
]
# The tests are what runs here; the check, the page and the demo have tests of their own.
APART = ("python3 launch.py", "python3 launch.py check", "python3 launch.py test", "python3 launch.py demo")


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "WORKBENCH_HOME": str(tmp_path / "workspace"), "HF_HUB_OFFLINE": "1"}


def command(line: str) -> list[str]:
    return [sys.executable, *shlex.split(line)[1:]]


def test_the_readme_names_its_four_commands() -> None:
    assert set(APART) <= set(COMMANDS)


def test_ci_runs_what_the_readme_says_and_nothing_else() -> None:
    script = (HOUSE / ".ci" / "run").read_text(encoding="utf-8")
    ran = [line for line in script.splitlines() if "python3" in line]
    assert ran == ["python3 launch.py check", "python3 launch.py test"]
    assert all(line in README for line in (*ran, "python3 launch.py fix"))


@pytest.mark.parametrize("line", [line for line in COMMANDS if line not in APART])
def test_a_command_of_the_readme(line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        command(line), cwd=HOUSE, env=environment(tmp_path), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_demo_goes_the_whole_way(tmp_path: Path) -> None:
    done = subprocess.run(
        [*command("python3 launch.py demo"), "--json"],
        cwd=HOUSE,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["last_loss"] < facts["first_loss"] / 2
    assert Path(facts["receipt"]).is_file()
    assert (Path(facts["adapter"]) / "adapter_model.safetensors").is_file()
    assert any(Path(facts["merged"]).glob("*.safetensors"))
    answers = {name: [c["answer"] for c in facts["columns"] if c["name"] == name] for name in ("base", "pirate")}
    assert len(answers["base"]) == len(answers["pirate"]) >= 3
    trained_on = json.loads((HOUSE / "assets" / "datasets" / "pirate.json").read_text(encoding="utf-8"))
    assert not {column["prompt"] for column in facts["columns"]} & {row["instruction"] for row in trained_on}
    assert all("matey" in answer.lower() for answer in answers["pirate"])
    assert not any("matey" in answer.lower() for answer in answers["base"])


def test_the_page_opens_and_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = subprocess.Popen(
        [*command("python3 launch.py"), "--port", str(port), "--no-browser"],
        cwd=HOUSE,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert page.stderr is not None
    line = page.stderr.readline()
    assert f"http://127.0.0.1:{port}" in line
    page.send_signal(signal.SIGINT)
    _, rest = page.communicate(timeout=30)
    assert "Traceback" not in rest
    assert len(rest.strip().splitlines()) <= 1

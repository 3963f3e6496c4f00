import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import launch

HOUSE = Path(launch.__file__).parent


def test_pins_include_the_files_that_are_included() -> None:
    runtime = launch.pins(launch.RUNTIME)
    development = launch.pins(launch.DEVELOPMENT)
    assert runtime["torch"] == "2.13.0"
    assert runtime.items() <= development.items()
    assert "pytest" in development and "pytest" not in runtime


def test_every_requirement_is_pinned_exactly() -> None:
    for file in (launch.RUNTIME, launch.DEVELOPMENT):
        for line in file.read_text(encoding="utf-8").splitlines():
            line = line.partition("#")[0].strip()
            assert not line or line.startswith("-r ") or "==" in line, line


def test_this_environment_has_the_pinned_requirements() -> None:
    assert launch.has_pinned([launch.RUNTIME])


def test_a_requirement_that_is_absent_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("no-such-package-at-all==1.0\n")
    monkeypatch.setattr(launch, "STAMPS", {file: tmp_path / "stamp"})
    assert not launch.has_pinned([file])
    file.write_text("pydantic==0.0.1\n")
    assert not launch.has_pinned([file])


def test_a_stamp_is_the_hash_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, stamp = tmp_path / "requirements.txt", tmp_path / "stamp"
    monkeypatch.setattr(launch, "STAMPS", {file: stamp})
    file.write_text("a==1\n")
    assert not launch.is_stamped(file)
    stamp.write_text(hashlib.sha256(b"a==1\n").hexdigest())
    assert launch.is_stamped(file)
    file.write_text("a==2\n")
    assert not launch.is_stamped(file)


@pytest.mark.parametrize(("answer", "version"), [("580.65.06", 580), ("  470.1\n", 470), ("no devices", 0), ("", 0)])
def test_the_driver_is_read_from_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, version: int
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '%s' '{answer}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert launch.nvidia_driver() == version


def test_no_tool_is_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.nvidia_driver() == 0


def test_the_launcher_imports_the_standard_library_only() -> None:
    code = (
        "import sys, launch; print(sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=HOUSE, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "['__main__', 'launch']"


class Version(tuple[int, ...]):
    """A sys.version_info of another Python."""


def test_an_old_python_finds_a_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, body in (("python3.13", "exit 1"), ("python3.12", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", Version((3, 10, 1)))
    assert launch.base_python() == str(tmp_path / "python3.12")
    monkeypatch.setattr(sys, "version_info", Version((3, 11, 2)))
    assert launch.base_python() == sys.executable


@pytest.mark.parametrize("version", [(3, 9, 1), (3, 14, 0)])
def test_without_a_fitting_python_there_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: tuple[int, ...],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", Version(version))
    assert launch.main([]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "3.11, 3.12 or 3.13" in said


def test_a_missing_venv_module_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "VENV", tmp_path / ".venv")
    with pytest.raises(OSError, match="apt install python"):
        launch.make_venv("/bin/false")

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
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


def test_a_requirement_that_is_absent_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("no-such-package-at-all==1.0\n")
    assert not launch.has_versions([file])
    file.write_text("pydantic==0.0.1\n")
    assert not launch.has_versions([file])


def test_a_stamp_is_the_hash_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, stamp = tmp_path / "requirements.txt", tmp_path / "stamp"
    monkeypatch.setattr(launch, "STAMPS", {file: "stamp"})
    file.write_text("a==1\n")
    assert not launch.is_stamped(tmp_path, file)
    stamp.write_text(hashlib.sha256(b"a==1\n").hexdigest())
    assert launch.is_stamped(tmp_path, file)
    file.write_text("a==2\n")
    assert not launch.is_stamped(tmp_path, file)


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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one file with the settings of this one, in the launcher's place."""
    monkeypatch.setattr(launch, "HERE", tmp_path)
    settings = (HOUSE / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(settings.replace('["app", "launch.py"]', '["one.py"]'))
    return tmp_path


CLEAN = '"""One module."""\n\nONE: int = 1\n'


@pytest.mark.parametrize(
    ("text", "complaint", "mended"),
    [
        (CLEAN, "", CLEAN),
        (CLEAN.replace("= 1", "=  1"), "ruff format --check", CLEAN),
        (CLEAN.replace("ONE", "import os\n\nONE"), "ruff check", CLEAN),
        (CLEAN.replace("= 1", '= "one"'), "mypy", CLEAN.replace("= 1", '= "one"')),
    ],
)
def test_check_names_the_tool_that_complains_and_fix_mends_what_it_can(
    project: Path, capfd: pytest.CaptureFixture[str], text: str, complaint: str, mended: str
) -> None:
    file = project / "one.py"
    file.write_text(text)
    assert launch.main(["check"]) == bool(complaint)
    last = capfd.readouterr().err.splitlines()[-1]
    assert last == "mypy:" if not complaint else f"See above what {complaint}" in last
    assert file.read_text() == text
    assert launch.main(["fix"]) == 0
    assert file.read_text() == mended


@pytest.mark.parametrize("wrong", ["", "here", "browser"])
def test_all_tests_run_in_several_processes_and_each_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], wrong: str
) -> None:
    """Two files wait for one another: one process alone would never end the first."""
    monkeypatch.setattr(launch, "HERE", tmp_path)
    (tmp_path / "tests" / "browser").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\ntestpaths = ["tests"]\n')
    for folder, name, other in (("tests", "here", "browser"), ("tests/browser", "browser", "here")):
        (tmp_path / folder / f"test_{name}.py").write_text(
            "import pathlib, time\n\n"
            f"def test_{name}():\n"
            f"    pathlib.Path({str(tmp_path / name)!r}).touch()\n"
            "    end = time.monotonic() + 60\n"
            f"    while not pathlib.Path({str(tmp_path / other)!r}).exists():\n"
            "        assert time.monotonic() < end\n"
            "        time.sleep(0.05)\n"
            f"    assert {name != wrong}\n"
        )
    assert launch.run_all_tests(Path(sys.executable)) == bool(wrong)
    told = capfd.readouterr().out
    assert (f"{1 if wrong else 2} passed" in told) and (f"::test_{wrong}" in told) is bool(wrong)


def test_check_takes_no_arguments(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(["check", "app"]) == 2
    assert "no arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("driver", "card", "offered", "steps"),
    [
        (0, "", True, ["pip torch==2.13.0+cpu"]),
        (0, "", False, ["pip torch==2.13.0+cpu", "uv cpu"]),
        (0, launch.AMD, True, ["pip torch==2.13.0+rocm7.2"]),
        (0, launch.AMD, False, ["pip torch==2.13.0+rocm7.2", "uv rocm7.2 cpu"]),
        (0, launch.INTEL, False, ["pip torch==2.13.0+xpu", "uv xpu cpu"]),
        (580, launch.AMD, True, ["pip torch==2.13.0"]),
        (550, launch.INTEL, True, ["uv auto"]),
        (470, "", True, ["pip torch==2.13.0+cpu"]),
    ],
)
def test_the_build_of_torch_suits_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: int, card: str, offered: bool, steps: list[str]
) -> None:
    taken: list[str] = []

    def pip(venv: Path, *arguments: str, attempt: bool = False) -> bool:
        taken.append(f"pip {' '.join(arguments)}")
        return offered or not attempt

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(launch, "nvidia_driver", lambda: driver)
    monkeypatch.setattr(launch, "other_card", lambda: card)
    monkeypatch.setattr(launch, "pip_install", pip)
    monkeypatch.setattr(
        launch, "install_torch_with_uv", lambda venv, torch, *builds: taken.append(f"uv {' '.join(builds)}")
    )
    launch.install_torch(tmp_path)
    assert taken == steps


@pytest.mark.parametrize(
    ("has_uv", "to_be_had", "steps"),
    [
        (True, "rocm7.2", ["uv", "rocm7.2"]),
        (True, "cpu", ["uv", "rocm7.2", "cpu"]),  # gigabytes for another maker's card help nobody
        (True, "none", ["uv", "rocm7.2", "cpu", "torch==2.13.0"]),
        (False, "rocm7.2", ["uv", "torch==2.13.0"]),
    ],
)
def test_the_first_build_that_is_to_be_had_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_uv: bool, to_be_had: str, steps: list[str]
) -> None:
    taken: list[str] = []

    def pip(venv: Path, wanted: str, attempt: bool = False) -> bool:
        taken.append(wanted.partition("==")[0] if attempt else wanted)
        return has_uv

    def uv(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[-1] == "torch==2.13.0"
        taken.append(command[-2].removeprefix("--torch-backend="))
        return subprocess.CompletedProcess(command, int(taken[-1] != to_be_had))

    monkeypatch.setattr(launch, "pip_install", pip)
    monkeypatch.setattr(subprocess, "run", uv)
    launch.install_torch_with_uv(tmp_path, "torch==2.13.0", "rocm7.2", "cpu")
    assert taken == steps


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_pip_has_the_right_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    taken: list[str] = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(launch, "nvidia_driver", lambda: 0)
    monkeypatch.setattr(launch, "pip_install", lambda venv, *arguments, attempt=False: taken.extend(arguments))
    launch.install_torch(tmp_path)
    assert taken == ["torch==2.13.0"]


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


def test_a_missing_venv_module_is_explained(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="apt install python"):
        launch.make_venv("/bin/false", tmp_path / ".venv")


def wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel of one empty package."""
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(path, text)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A house of its own: the real launcher, two tiny requirements as wheels, and a verb that says where it runs."""
    house = tmp_path / "house"
    (house / "app" / "cli").mkdir(parents=True)
    shutil.copy(HOUSE / "launch.py", house)
    (house / "requirements.txt").write_text("torch==1.0\nsmall==2.0\n")
    (house / "requirements-dev.txt").write_text("-r requirements.txt\n")
    for name, version in (("torch", "1.0+cpu"), ("torch", "1.0"), ("small", "2.0")):
        wheel(house, name, version)
    said = "import sys\ndef main(words):\n    import torch, small\n    print(sys.prefix, *words)\n    return 0\n"
    (house / "app" / "cli" / "main.py").write_text(said)
    return house


def start(house: Path, *words: str) -> subprocess.Popen[str]:
    """Start the house's launcher; pip looks nowhere but into the house."""
    here = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(house), "PYTHONPATH": ""}
    command = [sys.executable, str(house / "launch.py"), *words]
    return subprocess.Popen(command, env=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def leftovers(house: Path) -> list[str]:
    return [path.name for path in house.glob(".venv-*")]


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_an_interrupted_start_heals_and_so_does_what_broke_since(house: Path) -> None:
    first = start(house)
    deadline = time.monotonic() + 60
    while not list(house.glob(".venv*/pyvenv.cfg")) and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 1 and said.splitlines()[-1] == "Stopped." and "Traceback" not in said
    assert not leftovers(house) and not (house / ".venv").exists()

    # What older launchers left after Ctrl-C: an environment without pip.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(house / ".venv")], check=True)
    out, said = start(house, "a", "b").communicate(timeout=120)
    assert out.split() == [str(house / ".venv"), "a", "b"], said
    assert not leftovers(house)
    pip = (house / ".venv" / "bin" / "pip").read_text()
    assert pip.startswith(f"#!{house}/.venv/bin/python")

    out, said = start(house).communicate(timeout=60)
    assert (out.split(), said) == ([str(house / ".venv")], "")

    (small,) = house.glob(".venv/lib/*/site-packages/small")
    shutil.rmtree(small)
    (house / ".venv-new-1").mkdir()  # left by a start that was killed
    out, said = start(house).communicate(timeout=120)
    assert out.split() == [str(house / ".venv")] and "small is missing. Making it anew." in said
    assert not leftovers(house)

    # The check brings the development requirements along; here they hold no tool.
    check = start(house, "check")
    _, said = check.communicate(timeout=120)
    assert check.returncode == 1 and "Installing requirements-dev.txt" in said
    assert "No module named ruff" in said and "See above what ruff format --check ., ruff check ., mypy says" in said


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stamped environment with one package."""
    venv = tmp_path_factory.mktemp("made") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (packages,) = venv.glob("lib/python3.*/site-packages")
    (packages / "small").mkdir()
    (packages / "small" / "__init__.py").touch()
    launch.stamp(venv, launch.RUNTIME)
    return venv


def dangle(venv: Path) -> None:
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nowhere/python3")


def answer_as_another(venv: Path) -> None:
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").write_text("#!/bin/sh\necho 3.10\n")
    (venv / "bin" / "python").chmod(0o755)


def make_of_another(venv: Path) -> None:
    config = venv / "pyvenv.cfg"
    config.write_text(re.sub(r"version = 3\.\d+", "version = 3.10", config.read_text()))


def lose(pattern: str) -> Callable[[Path], None]:
    def act(venv: Path) -> None:
        (path,) = venv.glob(pattern)
        launch.remove(path)

    return act


@pytest.mark.skipif(os.name != "posix", reason="the folders of POSIX")
@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda venv: None, ""),
        (dangle, "it has no working Python"),
        (answer_as_another, "its Python has changed or does not run"),
        (make_of_another, "it belongs to another Python"),
        (lose("pyvenv.cfg"), "it has no working Python"),
        (lose("lib/*/site-packages/small"), "small is missing"),
        (lose("lib/*/site-packages/small/__init__.py"), "small/__init__.py is missing"),
        (lose("lib"), "small is missing"),
        (lose(launch.CONTENTS), "its installation was interrupted"),
        (lambda venv: (venv / launch.UNFINISHED).touch(), "its installation was interrupted"),
        (launch.remove, "it has no working Python"),
    ],
)
def test_what_is_broken_in_an_environment_is_found(
    made: Path, tmp_path: Path, harm: Callable[[Path], None], fault: str
) -> None:
    venv = tmp_path / ".venv"
    shutil.copytree(made, venv, symlinks=True)
    harm(venv)
    assert launch.fault_of(venv) == fault


@pytest.mark.parametrize("kind", ["file", "link", "folder", "nothing"])
def test_whatever_stands_in_the_way_is_swapped_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(launch, "HERE", tmp_path)
    monkeypatch.setattr(launch, "VENV", tmp_path / ".venv")
    fresh = tmp_path / ".venv-new-1"
    (fresh / "bin").mkdir(parents=True)
    if kind == "file":
        launch.VENV.write_text("x")
    elif kind == "link":
        launch.VENV.symlink_to(tmp_path / "gone")
    elif kind == "folder":
        (launch.VENV / "bin").mkdir(parents=True)
    launch.swap_in(fresh)
    assert [path.name for path in tmp_path.iterdir()] == [".venv"] and launch.VENV.is_dir()

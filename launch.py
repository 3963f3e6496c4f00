#!/usr/bin/env python3
"""Start LoRA Workbench with nothing but Python 3.10 to 3.13.

Uses the running interpreter if it has the pinned requirements; else makes `.venv` beside this file, installs
requirements.txt into it once, stamps it with the file's hash, and goes on inside it. The pinned libraries need Python
3.11 or newer: started by 3.10, the launcher makes the environment with a newer Python of this machine. Standard library
only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
RUNTIME, DEVELOPMENT = HERE / "requirements.txt", HERE / "requirements-dev.txt"
STAMPS = {RUNTIME: VENV / "stamp-runtime", DEVELOPMENT: VENV / "stamp-development"}
# What the pinned libraries run on (transformers 5.23 and trl 1.16 ask for 3.11 or newer).
OLDEST, NEWEST = (3, 11), (3, 13)
# uv knows PyTorch's own indexes and picks the build that suits the driver; pip alone does not.
UV = "uv==0.13.9"
# Lines of pip's output that tell a person how far it is.
PIP_PROGRESS = re.compile(r"\s*(Downloading \S+ \([^)]*\)|Installing collected packages)")
# Oldest NVIDIA driver for CUDA 12.x by NVIDIA's minor-version compatibility, and for the CUDA 13 build that pip
# installs on Linux (NVIDIA CUDA compatibility guide).
OLDEST_DRIVER, CUDA13_DRIVER = 525, 580


def main(arguments: Sequence[str]) -> int:
    """Find or make the environment and hand over to the command line."""
    base = base_python()
    if base is None:
        return fail(
            f"Python {sys.version.split()[0]} is not supported, and no other was found on this machine",
            "LoRA Workbench needs Python 3.11, 3.12 or 3.13",
            "install one of these and start again, for example with python3.12 launch.py",
        )
    wanted = [RUNTIME, DEVELOPMENT] if arguments[:1] == ["test"] else [RUNTIME]
    ready = has_pinned(wanted)
    python = Path(sys.executable) if ready else venv_python()
    try:
        if not ready:
            prepare(wanted, base)
    except subprocess.CalledProcessError:
        return fail("The environment could not be made", "an installation step failed, see above", "run it again")
    except OSError as error:
        return fail("The environment could not be made", str(error), f"check that {HERE} can be written")
    if arguments[:1] == ["test"]:
        return hand_over(python, ["-m", "pytest", *arguments[1:]])
    if python == Path(sys.executable):
        sys.path.insert(0, str(HERE))
        from app.cli.main import main as run

        return run(list(arguments))
    return hand_over(python, [str(HERE / "launch.py"), *arguments])


def fail(what: str, why: str, remedy: str) -> int:
    """Print one plain line and return the exit status of a failure."""
    print(f"{what}. {why}. {remedy[:1].upper()}{remedy[1:]}.", file=sys.stderr)
    return 1


def say(text: str) -> None:
    """Print a progress line."""
    print(text, file=sys.stderr, flush=True)


def pins(path: Path) -> dict[str, str]:
    """Return the pinned versions of a requirements file and of the files it includes."""
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found.update(pins(path.parent / line[3:].strip()))
        elif "==" in line:
            name, _, version = line.partition("==")
            found[name.strip()] = version.strip()
    return found


def has_pinned(files: Sequence[Path]) -> bool:
    """Tell whether the running interpreter has every pinned requirement. A local build such as 2.13.0+cpu counts."""
    if Path(sys.prefix) == VENV and all(is_stamped(file) for file in files):
        return True
    wanted = {name: version for file in files for name, version in pins(file).items()}
    try:
        return all(metadata.version(name).partition("+")[0] == version for name, version in wanted.items())
    except metadata.PackageNotFoundError:
        return False


def venv_python() -> Path:
    """Return the interpreter of the environment beside this file."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def content_hash(file: Path) -> str:
    """Return the hash that stamps an environment."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def is_stamped(file: Path) -> bool:
    """Tell whether the environment was completely made from this very requirements file."""
    stamp = STAMPS[file]
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == content_hash(file)


def base_python() -> str | None:
    """Return a Python that the pinned libraries run on: this one if it is, else one found by its name, else None."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        # A name on the path may be a placeholder of a version manager: ask it.
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    return None


def prepare(files: Sequence[Path], base: str) -> None:
    """Make or complete the environment. An interrupted installation is simply continued by the next start."""
    if not venv_python().exists():
        make_venv(base)
    for file in files:
        if is_stamped(file):
            continue
        say(f"Installing {file.name} into .venv (once, some minutes; later starts skip this).")
        if file == RUNTIME:
            install_torch()
        pip_install("-r", str(file))
        STAMPS[file].write_text(content_hash(file), encoding="utf-8")


def make_venv(base: str) -> None:
    """Make the environment, with a plain word where the system's Python lacks the part for it."""
    say(f"Making the environment {VENV}.")
    done = subprocess.run([base, "-m", "venv", str(VENV)], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        raise OSError(f"{base} has no venv; on Debian and Ubuntu `apt install python3-venv` adds it")


def pip_install(*arguments: str, attempt: bool = False) -> bool:
    """Run the environment's pip install and show what it collects. Return whether it succeeded.

    A failure is an error with pip's last words, unless this is only an `attempt`.
    """
    command = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar=off"]
    command += arguments
    words: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1) as process:
        assert process.stdout is not None
        for line in process.stdout:
            words.append(line.rstrip())
            shown = PIP_PROGRESS.match(line)
            if shown and not attempt:
                say(f"  {shown[0].strip()}"[:100])
    if process.returncode and not attempt:
        say("\n".join(words[-15:]))
        raise subprocess.CalledProcessError(process.returncode, command)
    return process.returncode == 0


def install_torch() -> None:
    """Install the pinned PyTorch in the build that suits the machine: CUDA with an NVIDIA card, else CPU."""
    torch = f"torch=={pins(RUNTIME)['torch']}"
    driver = nvidia_driver()
    if driver and driver < OLDEST_DRIVER:
        say(
            f"The NVIDIA driver {driver} is too old for {torch}, which needs {OLDEST_DRIVER} or newer: installing the "
            "CPU build. After updating the driver, delete .venv and start again."
        )
        driver = 0
    if driver >= CUDA13_DRIVER and sys.platform == "linux":
        say(f"NVIDIA driver {driver}: installing PyTorch with CUDA.")
        pip_install(torch)
    elif driver:
        say(f"NVIDIA driver {driver}: installing PyTorch with the CUDA version that suits it.")
        install_torch_with_uv(torch, "auto")
    elif sys.platform == "linux":
        say("No NVIDIA driver: installing the CPU build of PyTorch.")
        # A pip that is set up with a CPU build of its own (a mirror, a folder of wheels) offers it by this name.
        if not pip_install(f"{torch}+cpu", attempt=True):
            install_torch_with_uv(torch, "cpu")
    else:
        pip_install(torch)  # what pip offers on macOS and Windows is the CPU build


def install_torch_with_uv(torch: str, backend: str) -> None:
    """Install PyTorch through uv, which knows where each build lies; through plain pip where uv cannot."""
    command = [str(venv_python()), "-m", "uv", "pip", "install", "--python", str(venv_python())]
    if pip_install(UV, attempt=True):
        done = subprocess.run([*command, f"--torch-backend={backend}", torch], stdout=sys.stderr, check=False)
        if done.returncode == 0:
            return
    say("That build could not be had; installing the one that pip offers.")
    pip_install(torch)


def nvidia_driver() -> int:
    """Return the major version of the NVIDIA driver, or 0 without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.match(r"\s*(\d+)\.", answer)
    return int(match[1]) if match else 0


def hand_over(python: Path, arguments: Sequence[str]) -> int:
    """Go on in another interpreter: in this process's place on POSIX, as a child elsewhere."""
    command = [str(python), *arguments]
    sys.stderr.flush()
    if arguments[:2] == ["-m", "pytest"]:
        os.chdir(HERE)
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Stopped.")

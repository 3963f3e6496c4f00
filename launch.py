#!/usr/bin/env python3
"""Start LoRA Workbench with nothing but Python 3.10 to 3.13.

Uses the running interpreter if it has the pinned requirements; else makes `.venv` beside this file, installs
requirements.txt into it once, stamps it with the file's hash, and goes on inside it. An environment is made in a folder
beside and takes its place when it is complete; each start looks whether it still is, and makes a broken one anew. The
pinned libraries need Python 3.11 or newer: started by 3.10, the launcher makes the environment with a newer Python of
this machine. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
RUNTIME, DEVELOPMENT = HERE / "requirements.txt", HERE / "requirements-dev.txt"
STAMPS = {RUNTIME: "stamp-runtime", DEVELOPMENT: "stamp-development"}
# Beside the stamps: what lay in site-packages when the environment was complete, and a mark of work under way.
CONTENTS, UNFINISHED = "stamp-contents", "unfinished"
# What the pinned libraries run on (transformers 5.23 and trl 1.16 ask for 3.11 or newer).
OLDEST, NEWEST = (3, 11), (3, 13)
# uv knows PyTorch's own indexes and picks the build that suits the driver; pip alone does not.
UV = "uv==0.13.9"
# The verbs that need the development requirements, and what `check` and `fix` run, each in the project's folder.
DEVELOPMENT_VERBS = ("test", "check", "fix")
TOOLS = {
    "check": (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]),
    "fix": (["ruff", "check", "--fix", "."], ["ruff", "format", "."]),
}
TEST_PROCESSES = 2
# Lines of pip's output that tell a person how far it is.
PIP_PROGRESS = re.compile(r"\s*(Downloading \S+ \([^)]*\)|Installing collected packages)")
# Oldest NVIDIA driver for CUDA 12.x by NVIDIA's minor-version compatibility, and for the CUDA 13 build that pip
# installs on Linux (NVIDIA CUDA compatibility guide).
OLDEST_DRIVER, CUDA13_DRIVER = 525, 580
# PyTorch's builds for other cards, by their maker's number on the PCI bus: both exist for the pinned version, uv knows
# their indexes by these names, and bitsandbytes has a library for each.
AMD, INTEL = "0x1002", "0x8086"
OTHER_BUILDS = {AMD: ("AMD", "rocm7.2"), INTEL: ("Intel", "xpu")}
# Graphics within a processor of AMD have up to 4 GiB set aside; those of Intel have this place on the PCI bus.
LEAST_AMD_BYTES, INTEL_WITHIN_PROCESSOR = 5 << 30, ":00:02.0"


def main(arguments: Sequence[str]) -> int:
    """Find or make the environment and hand over to the command line."""
    base = base_python()
    if base is None:
        return fail(
            f"Python {sys.version.split()[0]} is not supported, and no other was found on this machine",
            "LoRA Workbench needs Python 3.11, 3.12 or 3.13",
            "install one of these and start again, for example with python3.12 launch.py",
        )
    verb = arguments[0] if arguments and arguments[0] in DEVELOPMENT_VERBS else ""
    requirements = [RUNTIME, DEVELOPMENT] if verb else [RUNTIME]
    ready = has_pinned(requirements)
    python = Path(sys.executable) if ready else venv_python(VENV)
    try:
        if not ready:
            prepare(requirements, base)
    except subprocess.CalledProcessError:
        return fail("The environment could not be made", "an installation step failed, see above", "run it again")
    except OSError as error:
        return fail("The environment could not be made", str(error), f"check that {HERE} can be written")
    if verb == "test":
        return hand_over(python, ["-m", "pytest", *arguments[1:]]) if arguments[1:] else run_all_tests(python)
    if verb:
        return run_tools(python, verb, arguments[1:])
    if arguments[:1] == ["audit"]:
        return hand_over(python, [str(HERE / "audit.py"), *arguments[1:]])
    if ready:
        sys.path.insert(0, str(HERE))
        from app.cli.main import main as run

        return run(list(arguments))
    return hand_over(python, [str(HERE / "launch.py"), *arguments])


def run_tools(python: Path, verb: str, arguments: Sequence[str]) -> int:
    """Run every tool of `check` or `fix`, also behind one that complains, and name those that did."""
    if arguments:
        print(f"`{verb}` takes no arguments: it looks at the whole project.", file=sys.stderr)
        return 0 if arguments[0] in ("-h", "--help") else 2
    complaints = []
    for tool in TOOLS[verb]:
        say(f"{' '.join(tool)}:")
        if subprocess.run([str(python), "-m", *tool], cwd=HERE, check=False).returncode:
            complaints.append(" ".join(tool))
    if complaints:
        remedy = (
            "run `python3 launch.py fix`, and mend by hand what it leaves" if verb == "check" else "mend it by hand"
        )
        return fail("The project is not clean", f"See above what {', '.join(complaints)} says", remedy)
    return 0


def run_all_tests(python: Path) -> int:
    """Run every test, file by file, in as many processes as a small machine has cores: one of them mostly waits."""
    shared = ["-n", str(TEST_PROCESSES), "--dist", "loadfile"]
    return subprocess.run([str(python), "-m", "pytest", *shared], cwd=HERE, check=False).returncode


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
    if Path(sys.prefix) == VENV:
        return not fault_of(VENV) and all(is_stamped(VENV, file) for file in files)
    return has_versions(files)


def has_versions(files: Sequence[Path]) -> bool:
    """Tell whether the running interpreter finds every pinned requirement in its version."""
    wanted = {name: version for file in files for name, version in pins(file).items()}
    try:
        return all(metadata.version(name).partition("+")[0] == version for name, version in wanted.items())
    except metadata.PackageNotFoundError:
        return False


def venv_python(venv: Path) -> Path:
    """Return the interpreter of an environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def content_hash(file: Path) -> str:
    """Return the hash that stamps an environment."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def is_stamped(venv: Path, file: Path) -> bool:
    """Tell whether the environment was completely made from this very requirements file."""
    stamp = venv / STAMPS[file]
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == content_hash(file)


def fault_of(venv: Path) -> str:
    """Return what is broken in an environment, or nothing. Looks at names only, so that a healthy start stays fast."""
    config, contents = venv / "pyvenv.cfg", venv / CONTENTS
    if not config.is_file() or not venv_python(venv).exists():
        return "it has no working Python"
    version = re.search(r"^version\s*=\s*3\.(\d+)", config.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    if version is None or not OLDEST <= (3, int(version[1])) <= NEWEST:
        return "it belongs to another Python"
    if (venv / UNFINISHED).exists() or not contents.is_file():
        return "its installation was interrupted"
    if Path(sys.prefix) != venv and answer_of(venv_python(venv)) != f"3.{version[1]}":
        return "its Python has changed or does not run"
    packages = site_packages(venv, version[1])
    for name in contents.read_text(encoding="utf-8").splitlines():
        if not (packages / name).exists():
            return f"{name} is missing"
    return ""


def answer_of(python: Path) -> str:
    """Return the version that an interpreter tells, or nothing when it does not run."""
    command = [str(python), "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def site_packages(venv: Path, minor: str) -> Path:
    """Return where an environment's packages lie."""
    return venv / ("Lib/site-packages" if os.name == "nt" else f"lib/python3.{minor}/site-packages")


def contents_of(packages: Path) -> list[str]:
    """Return the names that must stay: packages with their first module, and what is installed in which version."""
    found = []
    for entry in sorted(packages.iterdir()):
        if entry.name.startswith(("~", "__pycache__")):
            continue
        found.append(entry.name)
        found += [f"{entry.name}/{name}" for name in ("__init__.py", "METADATA") if (entry / name).is_file()]
    return found


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
    """Make the environment, or make it anew where it is broken. A second start waits for the first."""
    with one_at_a_time():
        for leftover in (*HERE.glob(".venv-new-*"), *HERE.glob(".venv-old-*")):
            remove(leftover)
        adopt()
        fault = fault_of(VENV)
        if not fault:
            complete(VENV, files)
            return
        if os.path.lexists(VENV):
            say(f"The environment {VENV} cannot be used: {fault}. Making it anew.")
        fresh = HERE / f".venv-new-{os.getpid()}"
        try:
            make_venv(base, fresh)
            complete(fresh, files)
            swap_in(fresh)
        finally:
            remove(fresh)


def complete(venv: Path, files: Sequence[Path]) -> None:
    """Install what is not yet there. A mark stands for as long as it lasts, so that an interruption is seen."""
    for file in files:
        if is_stamped(venv, file):
            continue
        say(f"Installing {file.name} into .venv (once, some minutes; later starts skip this).")
        (venv / UNFINISHED).touch()
        if file == RUNTIME:
            install_torch(venv)
        pip_install(venv, "-r", str(file))
        stamp(venv, file)


def stamp(venv: Path, file: Path) -> None:
    """Note that the environment is complete, from which file, and what belongs to it."""
    (packages,) = venv.glob("Lib/site-packages" if os.name == "nt" else "lib/python3.*/site-packages")
    (venv / CONTENTS).write_text("\n".join(contents_of(packages)), encoding="utf-8")
    (venv / STAMPS[file]).write_text(content_hash(file), encoding="utf-8")
    (venv / UNFINISHED).unlink(missing_ok=True)


def adopt() -> None:
    """Stamp an environment that was made by hand, or by an older launcher, if it has all that is pinned."""
    if (VENV / CONTENTS).exists() or (VENV / UNFINISHED).exists() or not venv_python(VENV).exists():
        return
    code = "import sys, launch; sys.exit(not launch.has_versions([launch.RUNTIME]))"
    command = [str(venv_python(VENV)), "-c", code]
    with suppress(OSError, ValueError):
        if subprocess.run(command, cwd=HERE, capture_output=True, check=False).returncode == 0:
            stamp(VENV, RUNTIME)


def swap_in(fresh: Path) -> None:
    """Put a complete environment into its place; the one before it goes away."""
    rewrite_paths(fresh)
    old = HERE / f".venv-old-{os.getpid()}"
    if os.path.lexists(VENV):
        VENV.rename(old)
    fresh.rename(VENV)
    remove(old)


def rewrite_paths(fresh: Path) -> None:
    """Name the final folder in the scripts that name the one they were made in."""
    made, final = str(fresh).encode(), str(VENV).encode()
    for script in venv_python(fresh).parent.iterdir():
        if script.is_symlink() or not script.is_file() or script.stat().st_size > 1 << 20:
            continue
        body = script.read_bytes()
        if made in body and not body.startswith((b"MZ", b"\x7fELF")):
            script.write_bytes(body.replace(made, final))


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, whatever it is; what is not there is no fault."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the lock of whoever makes the environment; wait for it where another start does."""
    with (HERE / ".venv.lock").open("a") as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another start is making the environment; waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_step(command: Sequence[str]) -> Iterator[str]:
    """Run one step in a group of its own and yield its lines; an interruption ends the whole group with it."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        bufsize=1,
        start_new_session=os.name == "posix",
    )
    try:
        yield from process.stdout or ()
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, list(command))
    finally:
        if process.stdout is not None:
            process.stdout.close()
        if process.poll() is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()
            process.wait()
            time.sleep(0.1)  # what its children were writing is written


def make_venv(base: str, venv: Path) -> None:
    """Make an environment, with a plain word where the system's Python lacks the part for it."""
    say(f"Making the environment {VENV if venv.name.startswith('.venv-new-') else venv}.")
    try:
        for _ in run_step([base, "-m", "venv", str(venv)]):
            pass
        (venv / UNFINISHED).touch()
    except subprocess.CalledProcessError:
        raise OSError(f"{base} has no venv; on Debian and Ubuntu `apt install python3-venv` adds it") from None


def pip_install(venv: Path, *arguments: str, attempt: bool = False) -> bool:
    """Run the environment's pip install and show what it collects. Return whether it succeeded.

    A failure is an error with pip's last words, unless this is only an `attempt`.
    """
    command = [str(venv_python(venv)), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar=off"]
    words: list[str] = []
    try:
        for line in run_step([*command, *arguments]):
            words.append(line.rstrip())
            shown = PIP_PROGRESS.match(line)
            if shown and not attempt:
                say(f"  {shown[0].strip()}"[:100])
    except subprocess.CalledProcessError:
        if attempt:
            return False
        say("\n".join(words[-15:]))
        raise
    return True


def install_torch(venv: Path) -> None:
    """Install the pinned PyTorch in the build that suits the machine: that for its card, else that for the CPU."""
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
        pip_install(venv, torch)
    elif driver:
        say(f"NVIDIA driver {driver}: installing PyTorch with the CUDA version that suits it.")
        install_torch_with_uv(venv, torch, "auto")
    elif sys.platform == "linux" and (card := other_card()):
        maker, build = OTHER_BUILDS[card]
        say(f"A GPU of {maker}: installing PyTorch's build {build}. Training on it was not measured.")
        if not pip_install(venv, f"{torch}+{build}", attempt=True):
            install_torch_with_uv(venv, torch, build, "cpu")
    elif sys.platform == "linux":
        say("No NVIDIA driver: installing the CPU build of PyTorch.")
        # A pip that is set up with a CPU build of its own (a mirror, a folder of wheels) offers it by this name.
        if not pip_install(venv, f"{torch}+cpu", attempt=True):
            install_torch_with_uv(venv, torch, "cpu")
    else:
        pip_install(venv, torch)  # what pip offers on macOS and Windows is the CPU build


def install_torch_with_uv(venv: Path, torch: str, *builds: str) -> None:
    """Install the first build of PyTorch that is to be had through uv, which knows where each lies, else pip's own."""
    command = [str(venv_python(venv)), "-m", "uv", "pip", "install", "--python", str(venv_python(venv))]
    for build in builds if pip_install(venv, UV, attempt=True) else ():
        done = subprocess.run([*command, f"--torch-backend={build}", torch], stdout=sys.stderr, check=False)
        if done.returncode == 0:
            return
        say(f"The build {build} could not be had.")
    say("Installing the build that pip offers.")
    pip_install(venv, torch)


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


def other_card(root: Path = Path("/")) -> str:
    """Return the maker of a card for which PyTorch has a build of its own, AMD before Intel, or nothing without one.

    These are the questions of app/hardware/linux.py, which needs the environment; a test holds the two together.
    """
    makers = set()
    for device in root.glob("sys/class/drm/card*/device"):
        if device.parent.name[4:].isdigit() and can_compute(root, device):
            makers.add(text_of(device / "vendor"))
    return next((maker for maker in OTHER_BUILDS if maker in makers), "")


def can_compute(root: Path, device: Path) -> bool:
    """Tell whether a device of the kernel's list of graphics is a card of AMD or Intel that the kernel lets compute."""
    maker = text_of(device / "vendor")
    if maker == AMD:
        size = text_of(device / "mem_info_vram_total")
        return size.isdigit() and int(size) >= LEAST_AMD_BYTES and (root / "dev/kfd").exists()
    facts = text_of(device / "uevent").splitlines()
    slot = next((line for line in facts if line.startswith("PCI_SLOT_NAME=")), "")
    within = not slot or slot.endswith(INTEL_WITHIN_PROCESSOR)
    return maker == INTEL and not within and (root / "dev/dri").exists()


def text_of(file: Path) -> str:
    """Return what a small file of the kernel says, or nothing where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


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

"""`launch.py audit`: what is installed to run the workbench, under which licences, and what is known against it.

The list comes from the packages' own metadata, without a network. What is known against them is asked of pip-audit,
which gets an environment of its own, so that the pinned one stays as it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import launch

PIP_AUDIT = "pip-audit==2.10.1"
ENVIRONMENT = launch.HERE / ".venv-audit"
_SIZE = "about 60 MB"


@dataclass(frozen=True)
class Package:
    """One installed package. `licence` is "not stated" where its metadata say nothing."""

    name: str
    version: str
    licence: str


def installed(names: Iterable[str]) -> list[Package]:
    """Return the named packages and all that they need here, by name; what is not installed is left out."""
    found: dict[str, Package] = {}
    todo = [canonicalize_name(name) for name in names]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = Package(name, package.version, licence_of(package.metadata))
        todo += [canonicalize_name(need) for need in _needs(package)]
    return [found[name] for name in sorted(found)]


def _needs(package: metadata.Distribution) -> list[str]:
    needs = []
    for text in package.requires or ():
        try:
            need = Requirement(text)
        except InvalidRequirement:
            continue
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            needs.append(need.name)
    return needs


def licence_of(facts: metadata.PackageMetadata) -> str:
    """Return a licence by its expression, else the classifiers', else the first line of the free text."""
    said = facts.get_all("License-Expression") or []
    classed = [
        line.rpartition(" :: ")[2] for line in facts.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    free = [text.strip().splitlines()[0][:60] for text in facts.get_all("License") or [] if text.strip()]
    return str((said or classed or free or ["not stated"])[0])


def known_faults(packages: Sequence[Package]) -> list[str] | None:
    """Ask pip-audit; return what it knows, None where it or its service cannot be had."""
    python = launch.venv_python(ENVIRONMENT)
    if not python.exists():
        launch.say(f"Installing {PIP_AUDIT} into {ENVIRONMENT.name} ({_SIZE}, once).")
        try:
            launch.make_venv(sys.executable, ENVIRONMENT)
        except OSError:
            return None
    asked = subprocess.run([str(python), "-c", "import pip_audit"], capture_output=True, check=False)
    if asked.returncode and not launch.pip_install(ENVIRONMENT, PIP_AUDIT, attempt=True):
        return None
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "installed.txt"
        listed.write_text("".join(f"{one.name}=={one.version.partition('+')[0]}\n" for one in packages))
        ask = ["-m", "pip_audit", "--requirement", str(listed), "--no-deps", "--disable-pip", "--format", "json"]
        command = [str(python), *ask, "--progress-spinner", "off"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            return faults_in(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return None


def faults_in(answer: str) -> list[str]:
    """Return pip-audit's answer, a line a fault. Raises ValueError for what is no answer.

    A package that its service does not know is skipped by pip-audit; that is no clean bill, so it raises too.
    """
    try:
        packages = json.loads(answer)["dependencies"]
        skipped = [package["name"] for package in packages if package.get("skip_reason")]
        faults = [
            f"{package['name']} {package['version']}: {fault['id']}, mended in {fault['fix_versions']}"
            for package in packages
            for fault in package.get("vulns", ())
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no answer of {PIP_AUDIT}: {error}") from None
    if skipped or not packages:
        raise ValueError(f"{PIP_AUDIT} looked at all but {', '.join(skipped)}")
    return faults


def main(words: Sequence[str]) -> int:
    """List, ask, and return 1 where something is known against a package or nothing could be asked."""
    parser = argparse.ArgumentParser(prog="launch.py audit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--offline", action="store_true", help="the list alone: nothing is installed or asked")
    parser.add_argument("--json", action="store_true", help="answer with one JSON object on standard output")
    arguments = parser.parse_args(words)
    packages = installed(launch.pins(launch.RUNTIME))
    faults = None if arguments.offline else known_faults(packages)
    if arguments.json:
        print(json.dumps({"packages": [asdict(one) for one in packages], "faults": faults}, indent=2))
    else:
        print("\n".join(f"{one.name:<28} {one.version:<16} {one.licence}" for one in packages))
        print("\n".join(faults or ()), end="\n" if faults else "")
    if arguments.offline:
        return 0
    if faults is None:
        return launch.fail("Known faults: not measured", f"{PIP_AUDIT} or its service cannot be reached", "try later")
    launch.say(f"{len(faults)} known faults in {len(packages)} packages.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The import laws, read from the source: who may import what, and who may start processes."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
SOURCES = {
    ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (HOUSE / "app").rglob("*.py")
}
# A folder with more holds more than one subject.
MOST_MODULES = 14
HEAVY = {"torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets"}
BASE = {"config", "errors", "files", "workspace", "redaction", "reading"}
# Everything that the page and the command line may reach: what is decided is decided there, and loads nothing heavy.
CORE = BASE | {
    "outputs",
    "support",
    "jobs",
    "data",
    "planner",
    "catalog",
    "hardware",
    "hub",
    "runs",
    "evaluation",
    "models.adapter_files",
    "models.names",
}
# The light modules of the engine, which the page and the command line talk through.
ENGINE = {"engine.client", "engine.http.event_stream", "engine.requests"}
# What each package may import besides itself.
ARROWS = {
    "errors": set(),
    "redaction": set(),
    "reading": set(),
    "proxies": set(),
    "files": set(),
    "workspace": {"errors"},
    "outputs": {"errors", "files", "workspace"},
    "support": BASE | {"hardware", "jobs"},
    "config": {"errors", "workspace"},
    "hardware": BASE,
    "devices": set(),
    "hub": BASE | {"jobs", "data"},
    "catalog": BASE | {"hub"},
    # The history of measurements is a metrics file like any other, and the supervisor starts the tracing child.
    # The trace runs the very experts that a run computes with.
    "planner": BASE | {"catalog", "hardware", "jobs", "models.moe.experts", "models.encoder_decoder", "models.targets"},
    "data": BASE,
    "jobs": BASE,
    "models": BASE | {"catalog", "devices", "hub", "data", "hardware"},
    "runs": CORE | ENGINE | {"training.checkpoints", "training.memory.oom_fallback", "training.trainers.settings"},
    "evaluation": BASE | {"jobs", "data", "models", "engine", "training.checkpoints"},
    "training": BASE | {"jobs", "data", "planner", "catalog", "models", "devices", "hardware", "hub"},
    "engine": BASE | {"jobs", "data", "planner", "catalog", "models", "devices", "hardware", "hub"},
    # A suite's prompts are read and judged as the playground does it.
    "export": BASE
    | {"jobs", "data", "planner", "catalog", "models", "hardware", "hub", "runs", "outputs"}
    | {"evaluation.held_out", "evaluation.suites"},
    "ui": CORE | ENGINE | {"export.requests", "export.targets.ollama_api", "training.checkpoints"},
    "cli": CORE | ENGINE | {"export.requests", "export.targets.ollama_api", "training.checkpoints", "ui", "proxies"},
}
_HUB_CLIENT = "huggingface_hub"
CHILDREN = ("training", "engine", "export", "models")


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@cache
def imported(module: str, *, at_load: bool) -> tuple[str, ...]:
    """Return what a module imports: everywhere, or only what loading it runs."""
    return tuple(_imported(module, at_load))


def _imported(module: str, at_load: bool) -> Iterator[str]:
    package = module.split(".") if SOURCES[module].name == "__init__.py" else module.split(".")[:-1]
    stack: list[ast.AST] = [ast.parse(SOURCES[module].read_text(encoding="utf-8"))]
    while stack:
        node = stack.pop()
        if at_load and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)
        stack.extend(ast.iter_child_nodes(node))


def loaded_by(start: str) -> dict[str, str]:
    """Return every top-level package that loading a module brings along, and the module that imports it."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    todo = [start]
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in imported(module, at_load=True):
            parts = name.split(".")
            if parts[0] != "app":
                found.setdefault(parts[0], module)
            todo += [known for n in range(1, len(parts) + 1) if (known := ".".join(parts[:n])) in SOURCES]
    return found


# The planner's own children and what they alone import.
_IN_CHILDREN = ("worker", "cuda_stubs", "experts", "inference", "measure", "models", "timeline")
TRACE = {f"app.planner.tracing.{name}" for name in _IN_CHILDREN}
LIGHT = [name for name in SOURCES if room_of(name) in ("ui", "cli", "planner", "catalog") and name not in TRACE]


@pytest.mark.parametrize("module", LIGHT)
def test_the_page_the_planner_and_the_command_line_load_nothing_heavy(module: str) -> None:
    brought = loaded_by(module)
    assert not HEAVY & set(brought), {name: brought[name] for name in HEAVY & set(brought)}


@pytest.mark.parametrize("module", [name for name in SOURCES if room_of(name) in CHILDREN or name.endswith("worker")])
def test_children_never_load_gradio(module: str) -> None:
    assert "gradio" not in loaded_by(module)


@pytest.mark.parametrize("module", [name for name in SOURCES if room_of(name) in ARROWS])
def test_arrows_go_one_way(module: str) -> None:
    room = room_of(module)
    allowed = ARROWS[room] | {room}
    for name in imported(module, at_load=False):
        if name.startswith("app.") and name in SOURCES:
            target = name.removeprefix("app.")
            assert any(target == ok or target.startswith(ok + ".") for ok in allowed) or _is_package_of(
                target, allowed
            ), f"{module} imports {name}"


def _is_package_of(target: str, allowed: set[str]) -> bool:
    """Naming a package to reach an allowed module in it is no import of all of it."""
    return any(ok.startswith(target + ".") for ok in allowed)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return a circle for every module that is met again on the way down from it."""
    found, done = [], set[str]()

    def go_down(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for target in sorted(arrows.get(module, ())):
                go_down(target, [*way, module])
            done.add(module)

    for module in sorted(arrows):
        go_down(module, [])
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports within functions count as well: they hide a circle and do not break it."""
    modules = {name for name, path in SOURCES.items() if path.name != "__init__.py"}
    assert circles({name: set(imported(name, at_load=False)) & modules - {name} for name in modules}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]


def test_no_folder_is_a_heap() -> None:
    modules = Counter(path.parent for path in SOURCES.values() if path.name != "__init__.py")
    assert {str(folder): count for folder, count in modules.items() if count > MOST_MODULES} == {}


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(name) for name in SOURCES} - {""}
    assert rooms == set(ARROWS)


def test_only_the_supervisor_starts_processes() -> None:
    starters = set()
    for module in SOURCES:
        names = set(imported(module, at_load=False))
        text = SOURCES[module].read_text(encoding="utf-8")
        if names & {"subprocess", "multiprocessing"} or "os.system(" in text or "os.fork(" in text:
            starters.add(module)
    # The data client and the trace hold a process that the supervisor started and need subprocess's types only.
    assert starters - {"app.data.client"} == {"app.jobs.supervisor"}


ACCELERATORS = ("torch.cuda", "torch.xpu", "torch.mps", "torch.backends.mps", "torch.accelerator", "torch.version.hip")


def asks_for_cards(source: str) -> bool:
    """Say whether a module's code, not its texts, names what torch knows of accelerators, or decides by CUDA's name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ACCELERATORS:
            return True
        if isinstance(node, ast.Import) and any(alias.name.startswith(ACCELERATORS) for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            if any(name.startswith(ACCELERATORS) for name in names):
                return True
        if isinstance(node, ast.Compare) and "device" in ast.unparse(node.left):
            compared = {value.value for value in ast.walk(node) if isinstance(value, ast.Constant)}
            if compared & {"cuda", "xpu", "mps", "nccl", "xccl"} and ".type" in ast.unparse(node.left):
                return True
    return False


def test_one_module_asks_for_cards() -> None:
    asking = {name for name, path in SOURCES.items() if asks_for_cards(path.read_text(encoding="utf-8"))}
    assert asking == {"app.devices"}
    for code in (
        "import torch\nif torch.cuda.is_available(): pass",
        "import torch\nif torch.backends.mps.is_available(): pass",
        "import torch\nif torch.version.hip: pass",
        "from torch import cuda",
        "from torch import xpu",
        "from torch.cuda import amp",
        "import torch.mps as m",
        "if x.device.type == 'cuda': pass",
    ):
        assert asks_for_cards(code), code
    assert not asks_for_cards("text = 'torch.cuda.is_available()'")
    assert not asks_for_cards("if x.device.type != 'cpu': pass")


def test_only_the_hub_talks_to_the_hub() -> None:
    asking = {m for m in SOURCES if any(n.split(".")[0] == _HUB_CLIENT for n in imported(m, at_load=False))}
    assert asking and {room_of(module) for module in asking} == {"hub"}, asking


def test_there_is_no_junk_drawer() -> None:
    assert not {path.stem for path in SOURCES.values()} & {"utils", "common", "helpers", "misc"}


def test_the_page_draws_the_arrows_that_are_allowed() -> None:
    text = (HOUSE / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## Arrows")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    drawn = {name.strip().strip("`"): set(filter(None, allowed.strip().split(", "))) for name, allowed in rows}
    assert drawn == ARROWS

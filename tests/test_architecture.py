"""The import laws, read from the source: who may import what, and who may start processes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
SOURCES = {
    ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (HOUSE / "app").rglob("*.py")
}
HEAVY = {"torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets"}
BASE = {"config", "errors", "workspace"}
CORE = BASE | {
    "jobs",
    "data",
    "planner",
    "catalog",
    "hardware",
    "presets",
    "runs",
    "recipe",
    "downloads",
    "sweep",
    "tracing",
    "votes",
}
CORE |= {"models.names"}
# The light modules of the engine, which the page and the command line talk through.
ENGINE = {"engine.client", "engine.event_stream", "engine.requests", "engine.suite_requests"}
# What each room may import besides itself.
ARROWS = {
    "errors": set(),
    "workspace": {"errors"},
    "combinations": {"errors"},
    "config": {"errors", "combinations"},
    "hardware": BASE,
    "presets": BASE,
    "catalog": BASE,
    # The history of measurements is a metrics file like any other.
    "planner": BASE | {"catalog", "hardware", "jobs.metrics"},
    "data": BASE,
    "jobs": BASE,
    "models": BASE | {"catalog"},
    "runs": BASE | {"jobs", "hardware", "planner", "catalog", "models.names", "combinations", "presets"},
    "recipe": BASE | {"runs", "jobs", "data", "models.names", "training.ladder", "training.settings"},
    "sweep": BASE | {"jobs", "runs"},
    "downloads": BASE | {"jobs", "data", "catalog.hub_ids"},
    "tracing": BASE | {"jobs", "planner"},
    "votes": BASE,
    "training": BASE | {"jobs", "data", "planner", "catalog", "models", "hardware"},
    "engine": BASE | {"jobs", "data", "planner", "catalog", "models", "hardware"},
    "export": BASE | {"jobs", "data", "planner", "catalog", "models", "hardware"},
    "ui": CORE | ENGINE | {"export.requests", "training.checkpoints"},
    "cli": CORE | ENGINE | {"export.requests", "export.push", "training.checkpoints", "ui"},
}
CHILDREN = ("training", "engine", "export", "models")


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(module: str, *, at_load: bool) -> Iterator[str]:
    """Yield what a module imports: everywhere, or only what loading it runs."""
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


# The planner's own child and what it alone imports.
TRACE = {"app.planner.trace_child", "app.planner.trace_shims"}
LIGHT = [name for name in SOURCES if room_of(name) in ("ui", "cli", "planner", "catalog") and name not in TRACE]


@pytest.mark.parametrize("module", LIGHT)
def test_the_page_the_planner_and_the_command_line_load_nothing_heavy(module: str) -> None:
    brought = loaded_by(module)
    assert not HEAVY & set(brought), {name: brought[name] for name in HEAVY & set(brought)}


@pytest.mark.parametrize("module", [name for name in SOURCES if room_of(name) in CHILDREN or name.endswith("child")])
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
    """Naming a package to reach an allowed module in it is no import of the whole room."""
    return "." not in target and any(ok.startswith(target + ".") for ok in allowed)


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


def test_there_is_no_junk_drawer() -> None:
    assert not {path.stem for path in SOURCES.values()} & {"utils", "common", "helpers", "misc"}

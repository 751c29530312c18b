"""The house holds: imports run one way, heavy packages keep to their place, the wheel is clean."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from setuptools import Distribution

import byg_train
from byg_train.config import tomllib
from byg_train.family import registry

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "byg_train"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Room of the package (a folder, or a file beside them) -> the rooms it may import from.
BASICS = {"config", "family", "files", "machine", "progress"}
ROOMS = {
    "__init__": set(),
    "family": set(),
    "files": set(),
    "text_files": set(),
    "machine": set(),
    "progress": set(),
    "local_server": set(),
    "core": set(),
    "config": {"family", "text_files"},
    "objectives": {"config", "core"},
    "critics": {"config", "core", "family", "files", "models"},
    "media": {"config", "files"},
    "models": {"config", "core", "family", "files", "machine", "text_files"},
    "data": {
        "config",
        "core",
        "family",
        "files",
        "local_server",
        "machine",
        "media",
        "models",
        "text_files",
    },
    "editing": {"config", "core", "data", "family", "files", "media", "models"},
    "training": BASICS | {"core", "critics", "data", "editing", "media", "models", "objectives"},
    "evaluate": {"config", "data", "files", "media"},
    "export": {"config", "data", "family", "files", "models", "training"},
    "study": {"data", "evaluate", "files", "local_server", "media"},
    "world": BASICS | {"core", "data", "editing", "evaluate", "media", "models", "training"},
    "cli": BASICS
    | {"text_files"}
    | {"data", "editing", "evaluate", "export", "local_server", "media", "models", "study"}
    | {"training", "world"},
    "__main__": {"cli"},
}
# Files that ComfyUI's nodes share.
SHARED = {
    "core.flow",
    "core.schedule",
    "family",
    "media.fit",
    "media.grid",
    "media.pixels",
    "models.lora_file",
    "models.lora_tensors",
    "models.sampler",
}
# Third-party package -> the parts that may import it; nothing else is restricted.
HEAVY = {
    "accelerate": {"training"},
    "diffusers": {"models"},
    "transformers": {"critics", "models", "data", "evaluate"},
    "peft": {"models"},
    "typer": {"cli"},
}
# Files that ComfyUI loads, records of families, the maths: what each may import beside the
# standard library.
PURE = {
    "family": set(),
    "files": set(),
    "text_files": set(),
    "machine": {"torch"},
    "core.critic": {"torch"},
    "core.flow": {"torch"},
    "core.schedule": {"torch"},
    "core.losses": {"torch"},
    "core.roles": {"torch"},
    "media.fit": {"torch"},
    "media.grid": {"PIL"},
    "media.pixels": {"torch", "numpy", "PIL"},
    "models.lora_file": {"torch", "safetensors"},
    "models.lora_tensors": {"torch"},
    "config": {"pydantic", "tomli"},
    "config.critic": {"pydantic"},
    "config.sections": {"pydantic"},
    "config.methods": {"pydantic"},
    "objectives.byg": {"torch"},
    "objectives.identity": {"torch"},
    "objectives.npedit": {"torch"},
    "objectives.objective": {"torch"},
    "objectives.supervised": {"torch"},
    **{f"models.{name}.record": set() for name in registry()},
}


def room(path: Path) -> str:
    """The part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted(path: Path) -> str:
    """A file's name inside the package: core.flow, or config for config/__init__.py."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(absolute module name, line) of every import in a file, inside functions too."""
    package = ["byg_train", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = PACKAGE.joinpath(*module.split(".")[1:], alias.name)
                is_module = submodule.with_suffix(".py").is_file() or submodule.is_dir()
                inside = module.split(".")[0] == "byg_train" and is_module
                yield (f"{module}.{alias.name}" if inside else module), node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    here, file = room(path), dotted(path)
    assert here in ROOMS, f"new room {here}: say in ROOMS what it may import"
    for module, line in imports(path):
        head, *rest = module.split(".")
        if head == "byg_train" and rest and rest[0] != here:
            assert rest[0] in ROOMS[here], f"{path.name}:{line}: {here} may not import {rest[0]}"
        if head in HEAVY:
            assert here in HEAVY[head], f"{path.name}:{line}: {here} may not import {head}"
        if file in PURE and head not in ("byg_train", "__future__"):
            known = sys.stdlib_module_names | PURE[file]
            assert head in known, f"{path.name}:{line}: {file} may not import {head}"


def assert_no_circle(edges: dict[str, set[str]]) -> None:
    """Take away what imports nothing that is left; what remains imports itself in the end."""
    left = dict(edges)
    while ready := {name for name, targets in left.items() if not targets & left.keys() - {name}}:
        left = {name: targets for name, targets in left.items() if name not in ready}
    assert not left, f"a circle among {sorted(left)}"


def test_there_is_no_circle_between_rooms() -> None:
    assert_no_circle(ROOMS)


def test_there_is_no_circle_between_files() -> None:
    names = {dotted(path) for path in SOURCES}
    edges = {}
    for path in SOURCES:
        found = {module.removeprefix("byg_train.") for module, _ in imports(path)}
        edges[dotted(path)] = found & names
    assert_no_circle(edges)


def callers(name: str) -> set[str]:
    """The files that call a function or method of this name."""
    found = set()
    for path in SOURCES:
        calls = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call))
        if any(ast.unparse(call.func).split(".")[-1] == name for call in calls):
            found.add(dotted(path))
    return found


def test_there_is_one_way_to_sample() -> None:
    """Guidance, experts, seeds and texts come together in the Editor; FlowEdit stands beside it."""
    assert callers("guided_field") == {"editing.editor"}
    assert callers("unipc") == {"models.sampler"}
    assert callers("few_steps") == {"models.sampler", "objectives.npedit"}
    assert callers("integrate") == {"models.sampler"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_inside_the_package_are_relative(path: Path) -> None:
    """So that the package also works as a subpackage of a custom node of any name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        for name in names:
            assert name.split(".")[0] not in ("byg_train", "nodes"), f"{path.name}:{node.lineno}"


def imported_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after a statement."""
    code = f"{statement}; import sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_the_package_imports_nothing() -> None:
    assert imported_by("import byg_train") - imported_by("pass") == {"byg_train"}


def test_the_command_line_starts_without_torch() -> None:
    loaded = imported_by("import byg_train.cli.app")
    assert "typer" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "peft", "accelerate"}


def test_what_the_nodes_share_needs_no_trainer() -> None:
    loaded = imported_by("import " + ", ".join(f"byg_train.{name}" for name in sorted(SHARED)))
    assert "torch" in loaded
    assert not loaded & {"diffusers", "transformers", "peft", "accelerate", "pydantic", "typer"}


def test_the_pack_loads_without_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ComfyUI would load it: by path, under the path as its name. With it: test_nodes_pack."""
    monkeypatch.delitem(sys.modules, "folder_paths", raising=False)
    name = str(ROOT).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    assert not hasattr(module, "comfy_entrypoint")


def test_the_pack_hides_no_entrypoint_from_its_host() -> None:
    """ComfyUI looks for comfy_entrypoint only where NODE_CLASS_MAPPINGS is absent."""
    names = {
        node.id if isinstance(node, ast.Name) else node.name
        for node in ast.walk(ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.alias)
    }
    assert {"comfy_entrypoint", "WEB_DIRECTORY"} <= names and "NODE_CLASS_MAPPINGS" not in names


def test_the_host_guard_hides_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    guard = next(node for node in tree.body if isinstance(node, ast.Try))
    assert [ast.unparse(node) for node in guard.body] == ["import folder_paths"]
    assert [ast.unparse(h.type) for h in guard.handlers] == ["ModuleNotFoundError"]


# ---------------------------------------------------------------- the tests

TESTS = sorted((ROOT / "tests").glob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda p: p.name)
def test_no_test_imports_another_test(path: Path) -> None:
    """What they share is a fixture of conftest.py, or lies in a module that holds no test."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            found = [part for part in name.split(".") if part.startswith("test_")]
            assert not found, f"{path.name}:{node.lineno} imports {name}"


# ---------------------------------------------------------------- packaging


@pytest.fixture(scope="module")
def wheel() -> set[str]:
    """The files that setuptools would put into the wheel, relative to the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        distribution = Distribution({"script_name": "setup.py"})
        distribution.parse_config_files()
        build = distribution.get_command_obj("build_py")
        build.ensure_finalized()
        modules = [Path(file) for _, _, file in build.find_all_modules()]
        data = [Path(src) / n for _, src, _, names in build.data_files for n in names]
    return {str(path) for path in (*modules, *data)}


def test_the_wheel_holds_the_package_alone(wheel: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel} == {"byg_train"}
    assert not [name for name in wheel if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_holds_everything_of_the_package(wheel: set[str]) -> None:
    """Presets, templates, the world's pictures and base: all but what git ignores."""
    here = {str(p.relative_to(ROOT)) for p in PACKAGE.rglob("*") if p.is_file()}
    ignored = ("__pycache__/", ".work/", "/.")
    assert {n for n in here - wheel if not any(mark in n for mark in ignored)} == set()
    assert {f"byg_train/presets/{n}.toml" for n in ("demo", "flux_edit", "flux_style")} <= wheel
    assert {f"byg_train/world/pictures/{n}.webp" for n in ("3d", "flat", "ink")} <= wheel


# The demo runs with these alone.
WORLD = [
    "warmup.safetensors",
    "licenses/fluent-emoji.md",
    *(f"pictures/{name}.webp" for name in ("3d", "flat", "ink")),
    "base/model_index.json",
    *(f"base/{part}/config.json" for part in ("transformer", "vae")),
    *(f"base/{part}/config.json" for part in ("text_encoder", "text_encoder_2")),
    *(f"base/{part}/tokenizer_config.json" for part in ("tokenizer", "tokenizer_2")),
    "base/transformer/diffusion_pytorch_model.safetensors",
    "base/vae/diffusion_pytorch_model.safetensors",
    *(f"base/{part}/model.safetensors" for part in ("text_encoder", "text_encoder_2")),
]


def test_the_wheel_holds_the_world(wheel: set[str]) -> None:
    assert {f"byg_train/world/{name}" for name in WORLD} - wheel == set()


def test_git_holds_the_world(wheel: set[str]) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "byg_train/world"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {name for name in wheel if name.startswith("byg_train/world/")}
    assert wanted - set(listed.stdout.splitlines()) == set()


def test_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == byg_train.__version__
    assert project["project"]["dependencies"] == []
    for pattern in project["project"]["license-files"]:
        assert list(ROOT.glob(pattern)), pattern
    assert {"PublisherId", "DisplayName", "Icon"} <= set(project["tool"]["comfy"])
    assert not (ROOT / "tests" / "__init__.py").exists()


# ---------------------------------------------------------------- the nodes

NODES = sorted((ROOT / "nodes").rglob("*.py"))
# What nodes may import beside the standard library and each other; `host/` alone also ComfyUI.
FOR_NODES = {"comfy_api", "torch", "numpy", "PIL"}
FOR_HOST = FOR_NODES | {"comfy", "comfy_execution", "comfy_extras", "folder_paths", "node_helpers"}
FOR_HOST |= {"safetensors", "tokenizers"}
# Of the embedded world, what draws its examples (numpy and pillow), and what fetches its bases.
FROM_WORLD = {"world.clips", "world.fetch", "world.names", "world.scenes"}


@pytest.mark.parametrize("path", NODES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nodes_import_only_what_comfyui_has(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[:-1]
    allowed = sys.stdlib_module_names | (FOR_HOST if "host" in folder else FOR_NODES)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module]
        elif isinstance(node, ast.ImportFrom):
            inside = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            if inside[:1] == ["byg_train"]:
                names = [".".join([*inside[1:], alias.name]) for alias in node.names]
                known = ".".join(inside[1:3]) in SHARED or set(names) <= SHARED | FROM_WORLD
                assert known, f"{path.name}:{node.lineno}: {names}"
            else:
                assert inside[0] == "nodes", f"{path.name}:{node.lineno}: {inside}"
        for module in modules:
            assert module.split(".")[0] in allowed, f"{path.name}:{node.lineno}: {module}"

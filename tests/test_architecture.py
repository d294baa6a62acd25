"""The rules of the layout: who imports whom, what is packaged, how large a file may be."""

import ast
import functools
import graphlib
import importlib.util
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "m2f_jax": ROOT / "m2f_jax",
    "m2f_jax.convert": ROOT / "convert",
    "m2f_jax.eval": ROOT / "eval",
}
STAGES = ("layers", "backbones", "pixel_decoders", "transformer_decoders")

# Each room, and which rooms or modules it may import besides itself, at the top of a module or
# within. A module belongs to the longest row that it lies in; names are those within m2f_jax.
BOTTOM = (
    "bounds",
    "config",
    "default_dtype",
    "files",
    "images",
    "labels",
    "masks",
    "pixel_limit",
    "plain",
    "sizes",
    "structures",
)
MAY_IMPORT = {
    "bounds": (),
    "default_dtype": (),
    "files": (),
    "labels": ("files",),
    "sizes": (),
    "structures": ("sizes",),
    "plain": ("bounds",),
    "config": ("bounds", "files", "labels", "plain"),
    "masks": ("sizes",),
    "pixel_limit": (),
    "images": ("pixel_limit", "sizes"),
    "presets": ("config", "labels"),
    "ops": (),
    "modeling": (*BOTTOM, "ops", *(f"modeling.{stage}" for stage in STAGES)),
    "modeling.layers": (*BOTTOM, "ops", "modeling.initializers"),
    "modeling.initializers": (),
    "modeling.backbones": (*BOTTOM, "ops", "modeling.initializers", "modeling.layers"),
    "modeling.pixel_decoders": (*BOTTOM, "ops", "modeling.initializers", "modeling.layers"),
    "modeling.transformer_decoders": (*BOTTOM, "ops", "modeling.initializers", "modeling.layers"),
    "modeling.parameters": (*BOTTOM, "modeling"),
    "inference": (*BOTTOM, "presets", "ops", "modeling"),
    "inference.export": (*BOTTOM, "ops", "modeling", "inference"),
    "datasets": (*BOTTOM, "datasets.coco_format"),
    "datasets.coco_format": BOTTOM,
    "visualization": (*BOTTOM, "inference.results"),
    "streets": BOTTOM,
    "convert": (
        *BOTTOM,
        "presets",
        "modeling.parameters",
        "inference.processor",
        "convert.files",
        "convert.tables",
    ),
    "convert.files": (*BOTTOM, "inference.processor"),
    "convert.tables": (*BOTTOM, "inference.processor", "convert.files"),
    "pretrained": (*BOTTOM, "modeling", "inference", "convert"),
    "training": (
        *BOTTOM,
        "presets",
        "ops",
        "modeling",
        "datasets",
        "inference.preprocess",
        "inference.processor",
        "training.losses",
    ),
    "training.losses": (*BOTTOM, "ops", "modeling", "training.config"),
    "training.running": (*BOTTOM, "modeling", "training"),
    "eval": (
        *BOTTOM,
        "datasets",
        "inference",
        "eval.analysis",
        "eval.metrics",
        "eval.predictions",
        "eval.results",
        "eval.running",
        "eval.tasks",
    ),
    "eval.running": (*BOTTOM, "datasets", "inference", "eval.metrics", "eval.tasks"),
    "eval.results": (
        *BOTTOM,
        "presets",
        "datasets",
        "inference.processor",
        "eval.analysis",
        "eval.metrics",
    ),
    "eval.tasks": (*BOTTOM, "datasets", "inference", "eval.metrics", "eval.predictions"),
    "eval.analysis": (
        *BOTTOM,
        "eval.analysis.matching",
        "eval.analysis.tallies",
        "eval.metrics",
    ),
    "eval.analysis.matching": (*BOTTOM, "eval.analysis.tallies", "eval.metrics"),
    "eval.analysis.tallies": (*BOTTOM, "eval.metrics"),
    "eval.metrics": BOTTOM,
    "eval.metrics.cityscapes": (
        *BOTTOM,
        "eval.metrics.array_files",
        "eval.metrics.boundary",
        "eval.metrics.pixel_runs",
    ),
    "eval.metrics.coco": (*BOTTOM, "datasets.coco_format", "eval.metrics.array_files"),
    "eval.metrics.panoptic": (
        *BOTTOM,
        "eval.metrics.boundary",
        "eval.metrics.array_files",
        "eval.metrics.pixel_runs",
    ),
    "eval.metrics.semantic": (
        *BOTTOM,
        "eval.metrics.array_files",
        "eval.metrics.cityscapes.ids",
        "eval.metrics.pixel_runs",
    ),
    "eval.predictions": (*BOTTOM, "datasets", "inference.results", "eval.metrics"),
    "eval.report": (
        *BOTTOM,
        "eval.analysis",
        "eval.metrics",
        "eval.results.published",
        "eval.report.pictures",
        "eval.report.sections",
    ),
    "eval.report.pictures": (
        *BOTTOM,
        "datasets",
        "visualization",
        "eval.analysis",
        "eval.metrics",
        "eval.predictions",
        "eval.report.page",
        "eval.report.sections",
        "eval.tasks",
    ),
    "eval.report.sections": (
        *BOTTOM,
        "eval.analysis",
        "eval.metrics",
        "eval.report.charts",
        "eval.report.page",
    ),
    "ray": (*BOTTOM, "inference", "pretrained"),
    "publishing": (
        *BOTTOM,
        "presets",
        "modeling",
        "inference.processor",
        "convert",
        "pretrained",
        "eval.running.model_digest",
    ),
    "app": (*BOTTOM, "inference.results", "streets", "visualization.color"),
    "cli": (
        *BOTTOM,
        "app",
        "presets",
        "modeling",
        "inference",
        "datasets",
        "visualization",
        "streets",
        "convert",
        "pretrained",
        "training",
        "eval",
        "publishing",
        "ray",
    ),
    "m2f_jax": (*BOTTOM, "presets", "modeling", "inference", "pretrained"),  # the public names
}
# The one exception: `from_pretrained`, `save_pretrained` and `push_to_hub`, where users look for
# them, import what they are aliases of.
ALIASES = {
    ("modeling.model", "pretrained"),
    ("modeling.model", "publishing.push"),
    ("inference.processor", "pretrained"),
    ("inference.segmenter", "pretrained"),
}


def find_modules() -> dict[str, Path]:
    return {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]): path
        for package, folder in FOLDERS.items()
        for path in sorted(folder.rglob("*.py"))
    }


MODULES = find_modules()


@functools.cache
def trees() -> dict[str, ast.Module]:
    """The parsed modules."""
    return {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imported(name: str, tree: ast.AST) -> set[str]:
    """The full names of all that a module imports, at its top or within."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            relative = f"{'.' * node.level}{node.module or ''}"
            module = importlib.util.resolve_name(relative, name.rpartition(".")[0])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def module_of(target: str) -> str | None:
    """The module that an imported name is, or is in; None if it isn't ours."""
    while target and target not in MODULES and f"{target}.__init__" not in MODULES:
        target = target.rpartition(".")[0]
    return short(target) if target else None


def short(module: str) -> str:
    """A module's name within m2f_jax."""
    return module.removesuffix(".__init__").removeprefix("m2f_jax.")


@functools.cache
def imports() -> dict[str, set[str]]:
    """What each module imports, at the top or within."""
    return {name: imported(name, tree) for name, tree in trees().items()}


@functools.cache
def imports_at_the_top() -> dict[str, set[str]]:
    return {
        name: set().union(
            *(imported(name, x) for x in tree.body if isinstance(x, ast.Import | ast.ImportFrom))
        )
        for name, tree in trees().items()
    }


def edges_of(found: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Which module imports which, of ours."""
    pairs = {
        (short(name), module_of(target)) for name, targets in found.items() for target in targets
    }
    return {(name, target) for name, target in pairs if target is not None and target != name}


def room(module: str) -> str:
    return max((row for row in MAY_IMPORT if inside(module, row)), key=len, default="m2f_jax")


def forbidden(edges: set[tuple[str, str]]) -> list[str]:
    """The imports that the table doesn't allow."""
    return sorted(
        f"{name} imports {target}"
        for name, target in edges
        if room(name) != room(target) and not inside(target, *MAY_IMPORT[room(name)])
    )


def find_cycle(edges: set[tuple[str, str]]) -> list[str]:
    """A cycle of modules that import each other; empty if there is none."""
    graph = {name: {b for a, b in edges if a == name} for name, _ in edges}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def inside(name: str, *packages: str) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def offences(where, is_forbidden) -> list[str]:
    """Imports of forbidden names in modules of the kind that `where` tells."""
    return sorted(
        f"{name} imports {target}"
        for name, targets in imports().items()
        if where(name)
        for target in targets
        if is_forbidden(target)
    )


def test_the_modules_are_found():
    assert len(MODULES) > 30
    assert "m2f_jax.ops.resize.bilinear_band" in imports()["m2f_jax.inference.upsampling"]
    assert "m2f_jax.convert.tables.rules.Rule" in imports()["m2f_jax.convert.reading"]
    assert "m2f_jax.pretrained.load_kind" in imports()["m2f_jax.modeling.model"]
    assert "m2f_jax.pretrained.load_kind" not in imports_at_the_top()["m2f_jax.modeling.model"]


def test_nothing_needs_torch():
    foreign = ("torch", "transformers", "detectron2")
    assert not offences(lambda _: True, lambda target: inside(target, *foreign))


def test_imports_are_those_of_the_table():
    assert not forbidden(edges_of(imports()) - ALIASES)


def test_there_are_no_cycles():
    assert not find_cycle(edges_of(imports()) - ALIASES)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("convert.reading", "pretrained"),
        ("modeling.layers", "modeling.mask2former"),
        ("modeling.backbones.swin", "modeling.pixel_decoders.fpn"),
        ("inference.results", "pretrained"),
        ("training.running.loop", "convert.reading"),
        ("training.losses.pairs", "training.step"),
        ("training.step", "training.running.loop"),
        ("convert.files.hub", "convert.tables.rules"),
        ("eval.metrics.coco.mask_ap", "eval.report.page"),
        ("eval.metrics.panoptic.segment_counts", "eval.metrics.cityscapes.region_tables"),
        ("datasets.folder", "streets.scene"),
        ("inference.processor", "training"),
    ],
)
def test_one_more_import_would_be_found(name, target):
    assert forbidden({(name, target)}) == [f"{name} imports {target}"]


def test_one_more_cycle_would_be_found():
    edges = edges_of(imports()) - ALIASES
    assert find_cycle(edges | ALIASES)
    back = find_cycle(edges | {("convert.files.pickles", "convert.reading")})
    assert {"convert.files.pickles", "convert.reading"} <= set(back)


def test_aliases_import_within_functions_and_are_all_needed():
    assert edges_of(imports()) >= ALIASES
    assert not edges_of(imports_at_the_top()) & ALIASES


def test_every_module_has_a_row():
    rooms = {room(short(name)) for name in MODULES}
    assert rooms <= set(MAY_IMPORT)
    assert [name for name in MODULES if room(short(name)) == "m2f_jax"] == ["m2f_jax.__init__"]


def test_exported_models_run_without_the_models_code():
    beside = [f"m2f_jax.inference.{name}" for name in ("prefetching", "preprocess", "results")]
    running = [f"m2f_jax.inference.export.{x}" for x in ("exported_file", "one_size", "running")]
    below = [*running, *beside, *(f"m2f_jax.{name}" for name in BOTTOM)]

    def above(target):
        return inside(target, "flax") or (inside(target, "m2f_jax") and not inside(target, *below))

    doors = ["m2f_jax.inference.__init__", "m2f_jax.inference.export.__init__"]
    runtime = [*doors, *below]
    assert all(any(inside(name, row) for name in MODULES) for row in runtime)
    assert not offences(lambda name: inside(name, *runtime), above)


def loaded(name: str) -> set[str]:
    """The modules of ours that a module loads, and itself."""
    found, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            targets = {f"m2f_jax.{target}" for a, target in edges_at_the_top() if a == short(one)}
            parts = one.removesuffix(".__init__").split(".")
            doors = [".".join([*parts[:k], "__init__"]) for k in range(1, len(parts))]
            waiting += [x for y in (*targets, *doors) for x in (y, f"{y}.__init__") if x in MODULES]
    return found


@functools.cache
def edges_at_the_top() -> set[tuple[str, str]]:
    return edges_of(imports_at_the_top())


def test_files_are_scored_without_jax_and_scipy():
    def is_jax(target):
        return inside(target, "jax", "flax", "jaxtyping.Array")

    def is_slow(target):
        return is_jax(target) or inside(target, "scipy")

    tops = imports_at_the_top()
    command = loaded("m2f_jax.cli.commands.eval")
    assert {"m2f_jax.eval.metrics.coco.mask_ap", "m2f_jax.datasets.coco"} < command
    assert not [name for name in command if any(map(is_slow, tops[name]))]
    assert any(map(is_jax, tops["m2f_jax.structures"]))


def test_operators_own_no_parameters():
    assert not offences(
        lambda name: inside(name, "m2f_jax.ops"), lambda target: inside(target, "flax")
    )


@pytest.mark.parametrize("name", MODULES)
def test_imports_are_relative_in_the_packages_whose_folders_are_elsewhere(name):
    homes = [package for package in FOLDERS if package != "m2f_jax" and inside(name, package)]
    folder = name.split(".")[:-1]
    for node in ast.walk(trees()[name]):
        if not isinstance(node, ast.ImportFrom):
            continue
        if not node.level:
            assert not inside(node.module, *homes)
            continue
        relative = f"{'.' * node.level}{node.module or ''}"
        target = importlib.util.resolve_name(relative, ".".join(folder))
        assert inside(target, *homes)
        one_dot_fewer = ".".join(folder[: len(folder) - node.level + 2])
        assert node.level == 1 or not inside(target, one_dot_fewer)


def test_names_say_what_is_inside():
    vague = {"utils", "util", "common", "helpers", "misc", "base", "core", "tools"}
    assert not [name for name in MODULES if vague & set(name.split("."))]


def test_every_package_is_listed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name.removesuffix(".__init__") for name in MODULES if name.endswith(".__init__")}
    assert set(settings["packages"]) == folders
    with_modules = {name.rpartition(".")[0] for name in MODULES}
    assert with_modules == folders  # or else an __init__.py is missing
    assert {ROOT / path for path in settings["package-dir"].values()} < set(FOLDERS.values())
    carried = {
        path
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in MODULES[f"{package}.__init__"].parent.glob(pattern)
    }
    files = {path for folder in FOLDERS.values() for path in folder.rglob("*") if path.is_file()}
    assert carried == {path for path in files if path.suffix not in (".py", ".pyc")}


@pytest.mark.parametrize("name", ["m2f_jax", "m2f_jax.cli.running", "m2f_jax.presets"])
def test_what_starts_at_once_imports_nothing_slow(name):
    code = f"import sys, {name}; sys.exit(bool({{'jax', 'PIL', 'numpy'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_predict_imports_nothing_that_it_does_without():
    code = (
        "import sys, m2f_jax.cli.commands.predict, m2f_jax.pretrained, m2f_jax.inference.tiling;"
        "slow = {'scipy', 'huggingface_hub', 'av', 'orbax', 'grain'};"
        "sys.exit(', '.join(slow & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_public_name_can_be_imported():
    import m2f_jax

    assert sorted(m2f_jax.__all__) == dir(m2f_jax)
    assert all(hasattr(m2f_jax, name) for name in m2f_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        m2f_jax.Nothing  # noqa: B018


@pytest.mark.skipif(
    not (shutil.which("git") and (ROOT / ".git").exists()), reason="needs a git checkout"
)
def test_no_file_is_large():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    files = [ROOT / name for name in listed if (ROOT / name).is_file()]
    assert len(files) > 50
    assert not [path for path in files if path.stat().st_size > 12e6]

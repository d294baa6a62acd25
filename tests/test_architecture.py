"""The rules of the layout: who imports whom, what is packaged, how large a file may be."""

import ast
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
COMMAND_LINE = "m2f_jax.cli"
BOTTOM = ("config", "labels", "structures")
STAGES = ("layers", "backbones", "pixel_decoders", "transformer_decoder")


def find_modules() -> dict[str, Path]:
    return {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]): path
        for package, folder in FOLDERS.items()
        for path in sorted(folder.rglob("*.py"))
    }


MODULES = find_modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


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


IMPORTS = {name: imported(name, tree) for name, tree in TREES.items()}
AT_THE_TOP = {
    name: set().union(
        *(imported(name, x) for x in tree.body if isinstance(x, ast.Import | ast.ImportFrom))
    )
    for name, tree in TREES.items()
}


def inside(name: str, *packages: str) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def offences(imports, where, forbidden) -> list[str]:
    """Imports of forbidden names in modules of the kind that `where` tells."""
    return sorted(
        f"{name} imports {target}"
        for name, targets in imports.items()
        if where(name)
        for target in targets
        if forbidden(target)
    )


def test_the_modules_are_found():
    assert len(MODULES) > 30
    assert "m2f_jax.ops.resize.bilinear_matrix" in IMPORTS["m2f_jax.inference.postprocess"]
    assert "m2f_jax.convert.tables.rules.Rule" in IMPORTS["m2f_jax.convert.reading"]
    assert "m2f_jax.pretrained.load_model" in IMPORTS["m2f_jax.modeling.mask2former"]
    assert "m2f_jax.pretrained.load_model" not in AT_THE_TOP["m2f_jax.modeling.mask2former"]


def test_nothing_needs_torch():
    foreign = ("torch", "transformers", "detectron2")
    assert not offences(IMPORTS, lambda _: True, lambda target: inside(target, *foreign))


def test_one_module_and_the_command_line_convert():
    def others(name):
        return not inside(name, "m2f_jax.convert", "m2f_jax.pretrained", COMMAND_LINE)

    assert not offences(IMPORTS, others, lambda target: inside(target, "m2f_jax.convert"))


def test_only_the_command_line_evaluates():
    def others(name):
        return not inside(name, "m2f_jax.eval", COMMAND_LINE)

    assert not offences(IMPORTS, others, lambda target: inside(target, "m2f_jax.eval"))


@pytest.mark.parametrize(
    ("room", "above"),
    [
        ("convert.files", ("convert.tables",)),
        ("eval.metrics", ("eval.predictions", "eval.report")),
        ("eval.predictions", ("eval.report",)),
    ],
)
def test_rooms_know_only_those_below(room, above):
    def here(name):
        return inside(name, f"m2f_jax.{room}")

    def over(target):
        return inside(target, *(f"m2f_jax.{name}" for name in above))

    assert not offences(IMPORTS, here, over)


def test_only_the_command_line_knows_the_streets():
    def others(name):
        return not inside(name, "m2f_jax.streets", COMMAND_LINE)

    assert not offences(IMPORTS, others, lambda target: inside(target, "m2f_jax.streets"))


def test_loading_is_on_top():
    def others(name):
        return not inside(name, COMMAND_LINE)

    top = ("m2f_jax.pretrained", COMMAND_LINE)
    assert not offences(AT_THE_TOP, others, lambda target: inside(target, *top))


def test_exported_models_run_without_the_models_code():
    beside = [f"m2f_jax.inference.{name}" for name in ("prefetching", "preprocess", "results")]
    below = [*beside, *(f"m2f_jax.{name}" for name in BOTTOM)]

    def above(target):
        return inside(target, "flax") or (inside(target, "m2f_jax") and not inside(target, *below))

    doors = ["m2f_jax.inference.__init__", "m2f_jax.inference.export.__init__"]
    runtime = ["m2f_jax.inference.export.running", *doors, *below]
    assert set(runtime) <= set(MODULES)
    assert not offences(IMPORTS, lambda name: name in runtime, above)


def test_operators_import_operators():
    def ours_but_not_operators(target):
        return inside(target, "m2f_jax") and not inside(target, "m2f_jax.ops")

    def operators(name):
        return inside(name, "m2f_jax.ops")

    assert not offences(IMPORTS, operators, ours_but_not_operators)
    assert not offences(IMPORTS, operators, lambda target: inside(target, "flax"))


def test_config_labels_and_structures_are_at_the_bottom():
    bottom = [f"m2f_jax.{name}" for name in BOTTOM]

    def ours_but_not_bottom(target):
        return inside(target, "m2f_jax") and not inside(target, *bottom)

    assert not offences(IMPORTS, lambda name: name in bottom, ours_but_not_bottom)
    assert not offences(IMPORTS, lambda name: name == "m2f_jax.config", lambda t: inside(t, "jax"))


def test_stages_do_not_know_each_other():
    layers = "modeling.layers", "modeling.initializers"
    below = [f"m2f_jax.{name}" for name in (*layers, "ops", *BOTTOM)]

    def above(target):
        return inside(target, "m2f_jax") and not inside(target, *below)

    def stages(name):
        return inside(name, *(f"m2f_jax.modeling.{stage}" for stage in STAGES))

    assert not offences(IMPORTS, stages, above)


def test_the_network_does_not_know_how_its_parameters_are_filled():
    def parameters(target):
        return inside(target, "m2f_jax.modeling.parameters")

    def others(name):
        return inside(name, "m2f_jax.modeling")

    assert not offences(IMPORTS, others, parameters)


@pytest.mark.parametrize("name", MODULES)
def test_imports_are_relative_in_the_packages_whose_folders_are_elsewhere(name):
    homes = [package for package in FOLDERS if package != "m2f_jax" and inside(name, package)]
    folder = name.split(".")[:-1]
    for node in ast.walk(TREES[name]):
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
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    files = {path for path in (ROOT / "m2f_jax").rglob("*") if path.is_file()}
    assert carried == {path for path in files if path.suffix not in (".py", ".pyc")}


@pytest.mark.parametrize("name", ["m2f_jax", "m2f_jax.cli", "m2f_jax.config", "m2f_jax.presets"])
def test_what_needs_no_jax_does_not_import_it(name):
    code = f"import sys, {name}; sys.exit('jax' in sys.modules)"
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

"""Numbers of configurations and options are checked where their fields are declared."""

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Annotated

import pytest

from m2f_jax.bounds import POSITIVE, Between, check_bounds
from m2f_jax.cli import main
from m2f_jax.cli.running import COMMANDS
from m2f_jax.config import SwinConfig
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.plain import from_plain
from m2f_jax.training.recipes import recipe


@dataclass(frozen=True)
class Numbers:
    one: Annotated[int, Between(1, 3)] = 1
    some: Annotated[tuple[float, ...], POSITIVE] = (1.0,)
    perhaps: Annotated[int | None, Between(0)] = None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"one": 0}, "x: one must be from 1 to 3, not 0"),
        ({"one": 4}, "x: one must be from 1 to 3, not 4"),
        ({"some": (1.0, 0.0)}, r"x: some must be above 0, not \(1.0, 0.0\)"),
        ({"some": (math.inf,)}, "x: some must be above 0"),
        ({"some": (math.nan,)}, "x: some must be above 0"),
        ({"perhaps": -1}, "x: perhaps must be 0 or more, not -1"),
        ({"perhaps": 10**400}, "x: perhaps must be 0 or more, not 10{79}$"),
    ],
)
def test_numbers_out_of_bounds_are_refused(values, message):
    check_bounds(Numbers(), "x: ")
    check_bounds(Numbers(3, (0.1, 9.0), 0), "x: ")
    with pytest.raises(ValueError, match=message):
        check_bounds(Numbers(**values), "x: ")


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (SwinConfig, {"depths": [2, 2, 2_000_000_000, 2]}, "f.json: SwinConfig: depths must be"),
        (SwinConfig, {"mlp_ratio": math.inf}, "f.json.mlp_ratio has the value inf"),
        (SwinConfig, {"mlp_ratio": 10**400}, "f.json.mlp_ratio has the value 10{79}, which isn't"),
        (SwinConfig, {"window_size": 10**400}, "f.json.window_size has the value 10{79}, which"),
        (ImageProcessor, {"size_divisor": 0}, "f.json: ImageProcessor: size_divisor must be"),
        (ImageProcessor, {"size_divisor": 10**9}, "f.json: ImageProcessor: size_divisor must be"),
        (ImageProcessor, {"shortest_edge": 0}, "f.json: ImageProcessor: shortest_edge must be"),
        (ImageProcessor, {"std": [1.0, 0.0, 1.0]}, "f.json: ImageProcessor: std must be"),
        (ImageProcessor, {"mean": [1.0]}, "f.json: ImageProcessor: mean has one number per color"),
    ],
)
def test_files_are_refused_by_file_and_field(kind, values, message):
    with pytest.raises(ValueError, match=message):
        from_plain(kind, values, "f.json")


def test_a_recipe_of_ones_own_is_checked():
    streets = recipe("streets")
    with pytest.raises(ValueError, match="Recipe: batch_size must be"):
        dataclasses.replace(streets, batch_size=0)
    with pytest.raises(ValueError, match="Augmentation: flip must be"):
        dataclasses.replace(streets.augmentation, flip=math.nan)


def commands(kind):
    """The command itself, or its subcommands."""
    hints = typing.get_type_hints(kind)
    if "data" in hints and typing.get_args(hints["data"]):
        return typing.get_args(hints["data"])
    return (kind,)


NUMBERS = [
    (command, field)
    for kind in COMMANDS.values()
    for command in commands(kind)
    for field, hint in typing.get_type_hints(command).items()
    if {int, float} & {hint, *typing.get_args(hint)}
]


@pytest.mark.parametrize(
    ("command", "field"), NUMBERS, ids=[f"{c.__name__}-{f}" for c, f in NUMBERS]
)
def test_every_number_of_an_option_has_bounds(command, field):
    hint = typing.get_type_hints(command, include_extras=True)[field]
    assert any(isinstance(x, Between) for x in hint.__metadata__), field


@pytest.mark.parametrize("value", ["0", "-1"])
def test_an_option_out_of_bounds_is_one_line(value, capsys):
    assert main(["eval", "folder", "x", "--limit", value]) == 1
    assert capsys.readouterr().err == f"m2f: --limit must be 1 or more, not {value}\n"
    assert main(["train", "streets", "--data", "x", "--out", "y", "--learning-rate", "nan"]) == 1
    assert capsys.readouterr().err == "m2f: --learning-rate must be above 0, not nan\n"
    assert main(["train", "streets", "--data", "x", "--out", "y", "--process-id", value]) == 1

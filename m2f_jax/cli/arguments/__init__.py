"""The options of each subcommand; light to import, so that `m2f --help` is quick."""

from m2f_jax.cli.arguments.evaluation import (
    Eval,
    EvalAde20k,
    EvalAde20kFull,
    EvalCityscapes,
    EvalCoco,
    EvalCocoStuff,
    EvalCompare,
    EvalFolder,
    EvalImages,
    EvalMapillary,
    EvalOptions,
    EvalYtvis,
)
from m2f_jax.cli.arguments.models import Convert, Export, Info, Models, Push
from m2f_jax.cli.arguments.prediction import App, Predict
from m2f_jax.cli.arguments.training import Streets, Train
from m2f_jax.cli.arguments.values import DEFAULT_MODEL, Processes, parse_batch, parse_size

__all__ = [
    "DEFAULT_MODEL",
    "App",
    "Convert",
    "Eval",
    "EvalAde20k",
    "EvalAde20kFull",
    "EvalCityscapes",
    "EvalCoco",
    "EvalCocoStuff",
    "EvalCompare",
    "EvalFolder",
    "EvalImages",
    "EvalMapillary",
    "EvalOptions",
    "EvalYtvis",
    "Export",
    "Info",
    "Models",
    "Predict",
    "Processes",
    "Push",
    "Streets",
    "Train",
    "parse_batch",
    "parse_size",
]

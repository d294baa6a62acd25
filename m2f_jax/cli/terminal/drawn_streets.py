"""Advice about the model in the package, which knows no photographs."""

from m2f_jax.cli.arguments import DEFAULT_MODEL

FOR_PHOTOGRAPHS = "facebook/mask2former-swin-tiny-coco-instance"


def advice(model: str, command: str) -> str:
    """Returns what users of this model should know; empty if it is another one.

    Args:
        model: the source of the model, as the user named it.
        command: the subcommand and its arguments, for the command that the advice shows.
    """
    if model != DEFAULT_MODEL:
        return ""
    return (
        "the model in the package knows only streets as m2f streets draws them, and finds nonsense "
        f"in photographs; for those: m2f {command} --model {FOR_PHOTOGRAPHS}"
    )

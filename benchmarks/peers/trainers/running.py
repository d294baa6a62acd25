"""Training runs: all steps of one side, in a process of its own."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

from measuring.machine import choose_device, device_kind, peak_host_bytes
from measuring.processes import in_a_process
from measuring.records import OURS
from measuring.tables import say
from measuring.timing import timed

from m2f_jax.bounds import Between
from peers.trainers.batches import Scenes, Settings

WARM_UP = 2  # steps that aren't timed

Steps = Annotated[int, Between(WARM_UP + 1)]


class Run(NamedTuple):
    """A finished training run.

    Attributes:
        losses: the loss of every step.
        seconds: the time of every step, from a batch on the device to updated parameters.
        peak_mib: the most memory held: by the device on a GPU, otherwise by the process.
    """

    losses: list[float]
    seconds: list[float]
    peak_mib: float


def find_device(wanted: str | None) -> tuple[str, str]:
    """Returns the device to train on, and its name.

    Another process looks for it, since the one that does holds the device until it ends.
    """
    only_cpu = {"JAX_PLATFORMS": "cpu"} if wanted == "cpu" else {}
    return in_a_process(device_and_name, wanted, **only_cpu)


def device_and_name(wanted: str | None) -> tuple[str, str]:
    """Returns the device to train on, and its name; takes hold of the device."""
    device = choose_device(wanted)
    return device, device_kind(device)


def train_alone(train: Callable[..., Any], name: str, settings: Settings, *arguments: Any) -> Any:
    """Returns `train(name, settings, *arguments)`, called in a process of its own."""
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # else all memory counts as used
    if name != OURS or settings.device == "cpu":
        environment["JAX_PLATFORMS"] = "cpu"
    return in_a_process(train, name, settings, *arguments, **environment)


def take_steps(
    trainer: Any, scenes: Iterable[Scenes], settings: Settings, *, every: int = 1
) -> Run:
    """Takes a training step for each batch.

    Args:
        trainer: the `Trainer` of a side.
        scenes: the batches.
        settings: those that the trainer was made with.
        every: progress is printed after so many steps.
    """
    losses, seconds = [], []
    for step, batch in enumerate(scenes, 1):
        loss, duration = timed(trainer.step(trainer.place(batch)))
        losses.append(loss)
        seconds.append(duration)
        if step % every == 0:
            say(f"step {step} of {settings.steps}: loss {loss:.3f}, {duration:.2f} s")
    peak = trainer.peak_device_bytes() if settings.device == "cuda" else peak_host_bytes()
    return Run(losses, seconds, peak / 2**20)

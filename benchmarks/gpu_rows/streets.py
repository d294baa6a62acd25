"""The model in the package."""

import json
import os

from measuring.processes import m2f

from gpu_rows.suite.job import Job, Measuring, figure

STEPS_A_SECOND = 20  # of 16 crops, on an H100; the schedule needs to know beforehand
LEAST_SECONDS = 20
FOR_EVALUATION = 45  # seconds
NEVER = 1000000  # steps


def train(job: Job) -> Measuring:
    """Trains the model in the package further, in the time that is left."""
    data, out, images = job.out / "streets", job.out / "streets-training", job.scale.streets
    for seed, (split, count) in enumerate((("train", images), ("val", max(2, images // 16))), 1):
        size = ("--size", job.scale.street_size)
        m2f("streets", data, "--images", count, *size, "--seed", seed, "--split", split)
    yield
    steps = int(max(LEAST_SECONDS, job.seconds_left - FOR_EVALUATION) * STEPS_A_SECOND)
    workers = max(1, (os.cpu_count() or 2) - 1)
    full = ("--size", "256x512", "--learning-rate", "3e-4", "--batch-size", 16)
    options = (*full, "--workers", workers, "--log-every", 100)
    if job.device == "cpu":
        steps, options = 2, ("--batch-size", 2, "--workers", 0, "--log-every", 1)
    m2f(
        *("train", "streets", "--data", data, "--out", out, "--from", "streets", "--threads", 2),
        *("--steps", steps, "--save-every", NEVER, "--evaluate-every", NEVER, *options),
    )
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    [*_, score] = [0.0, *(line["PQ"] for line in log if "PQ" in line)]
    return [figure("steps", steps, ""), figure("PQ on val", score, "%")], {"log": log[-5:]}

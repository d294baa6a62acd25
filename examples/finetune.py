"""Fine-tunes a model on your own classes: python examples/finetune.py DATA OUT [SOURCE].

DATA holds images/ and annotations.json (objects in COCO's format), or images/, ids/ and labels.json
(see m2f_jax/datasets/folder.py). `m2f train` does the same with checkpoints, evaluations and logs.
"""

import argparse
import dataclasses
from pathlib import Path

import jax

from m2f_jax import ImageProcessor, Mask2Former
from m2f_jax.datasets.checking import check_examples, with_segments
from m2f_jax.datasets.folder import folder_dataset
from m2f_jax.pretrained import start_from
from m2f_jax.training import LossConfig, OptimizerConfig, TrainConfig, TrainState, train_step
from m2f_jax.training.augment import random_crops
from m2f_jax.training.data import DataConfig, batches

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("source", nargs="?", default="facebook/mask2former-swin-tiny-coco-instance")
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--batch-size", type=int, default=4)
parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("H", "W"))
parser.add_argument("--points", type=int, default=12544, help="per mask, in the losses")
options = parser.parse_args()

# Every file is read once before the first step, so that no fault shows up in the middle.
examples = folder_dataset(options.data, "instance")
examples = with_segments(examples, check_examples(examples).counts)

# The trained parameters, with a fresh head for the new classes.
trained = Mask2Former.from_pretrained(options.source).config
config = TrainConfig(
    model=dataclasses.replace(trained, labels=examples.labels, task="instance"),
    steps=options.steps,
    loss=LossConfig(num_points=options.points),
    optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=options.steps // 20),
)
model, fresh = start_from(options.source, config.model, seed=0, dtype=config.dtype)
print(
    f"{len(examples)} images, {len(examples.labels)} classes; fresh: {', '.join(fresh) or 'none'}"
)

state = TrainState.of(model, config)
height, width = options.size
augmentation = random_crops((height, width), edge=height, longest_edge=4 * height)
data = batches(examples, DataConfig(augmentation=augmentation, batch_size=options.batch_size))
with data:
    for step, batch in zip(range(1, options.steps + 1), data, strict=False):
        state, metrics = train_step(state, state.partitioner.put_batch(batch), jax.random.key(0))
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}: loss {metrics.loss:.2f}, rate {metrics.learning_rate:.1e}")

ImageProcessor(shortest_edge=height, longest_edge=4 * height).save_pretrained(options.out)
state.model().save_pretrained(options.out)
print(f"try it: m2f predict IMAGE --model {options.out}")

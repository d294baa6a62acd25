"""Fine-tunes a trained model on your own classes: python examples/finetune.py DATA OUT [SOURCE].

DATA holds train/ and val/, each with images/ and annotations.json (objects in COCO's format). The
command `m2f train --from SOURCE --data DATA --out OUT` does the same with checkpoints and a log.
"""

import argparse
from pathlib import Path

import jax
from m2f_jax.eval.evaluation import evaluate
from PIL import Image

from m2f_jax import Segmenter, load_for_training
from m2f_jax.datasets.checking import check_examples, with_segments
from m2f_jax.datasets.opening import open_dataset
from m2f_jax.images import read_image
from m2f_jax.training import TrainState, train_step
from m2f_jax.training.data import batches
from m2f_jax.training.recipes import fine_tuning
from m2f_jax.visualization.drawing import draw_instances

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("source", nargs="?", default="facebook/mask2former-swin-tiny-coco-instance")
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("H", "W"))
options = parser.parse_args()

# Every file is read once before the first step, so that no fault shows up in the middle.
train, val = (open_dataset(options.data, split, "instance") for split in ("train", "val"))
train_on = with_segments(train, check_examples(train).counts)

# All parameters of the trained model, but a fresh head for classes that it doesn't know.
model, fresh = load_for_training(options.source, train.labels, "instance")
print(f"{len(train_on)} images, {len(train.labels)} classes; fresh: {', '.join(fresh) or 'none'}")

recipe = fine_tuning(model.config, steps=options.steps, size=tuple(options.size))
state = TrainState.of(model, recipe.train)
with batches(train_on, recipe.data()) as data:
    for step, batch in zip(range(1, options.steps + 1), data, strict=False):
        state, metrics = train_step(state, state.partitioner.put_batch(batch), jax.random.key(0))
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}: loss {metrics.loss:.2f}, rate {metrics.learning_rate:.1e}")

model, processor = state.model(), recipe.processor()
model.save_pretrained(options.out)
processor.save_pretrained(options.out)

segmenter = Segmenter(model, processor)
print(", ".join(f"{name} {x:.1f}" for name, x in evaluate(segmenter, val).scores.items()))
image = read_image(val.images[0].image)
found = segmenter(image, "instance", threshold=0.5)
Image.fromarray(draw_instances(image, found, [label.name for label in train.labels])).save(
    options.out / "example.png"
)
print(f"predict more: m2f predict IMAGE --model {options.out}")

"""Endless batches of training data, read in parallel by Grain.

A batch depends on its number alone. The order of images in an epoch follows from the seed and the
epoch; the random numbers of an image follow from the seed, the epoch and the image's place in it.
So threads, worker processes, hosts and interruptions change nothing.
"""

import functools
import json
import weakref
from dataclasses import dataclass
from typing import Annotated

import grain
import numpy as np
from jaxtyping import Int

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.datasets.dataset import TrainingSet
from m2f_jax.pixel_limit import max_pixels, set_max_pixels
from m2f_jax.training.augment import Augmentation
from m2f_jax.training.batch import TrainBatch, pack, stack

ORDER, CHANGES = 0, 1  # streams of random numbers of one seed
FOREVER = 2**62  # examples


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The settings of the batches.

    Attributes:
        augmentation: random changes to each image, and the size of the result.
        batch_size: images per batch, of all processes together.
        max_segments: segments per image; of more, the largest are kept.
        keep_empty: whether segments outside the crop stay as empty masks, as in the authors'
            mappers for instances of Cityscapes and for panoptic training.
        seed: what the order of the images and their random changes follow from.

    Raises:
        ValueError: a number is out of range.
    """

    augmentation: Augmentation
    batch_size: Annotated[int, Between(1, 1_000_000)] = 16
    max_segments: Annotated[int, Between(1, 10_000)] = 100
    keep_empty: bool = False
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0

    def __post_init__(self):
        check_bounds(self)


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> Int[np.ndarray, "count"]:
    """Returns the order of the images in an epoch."""
    return np.random.default_rng([seed, ORDER, epoch]).permutation(count)


@dataclass(frozen=True)
class Stream:
    """The sequence of examples of one process, which Grain may read in any order.

    Batches take images in the order of epoch after epoch. This process has the places from `first`
    to `first + share` of every batch.
    """

    examples: TrainingSet
    config: DataConfig
    first: int
    share: int

    def __len__(self) -> int:
        return FOREVER

    def __getitem__(self, index: int) -> TrainBatch:
        step, place = divmod(int(index), self.share)
        number = step * self.config.batch_size + self.first + place
        epoch, position = divmod(number, len(self.examples))
        order = epoch_order(self.config.seed, epoch, len(self.examples))
        rng = np.random.default_rng([self.config.seed, CHANGES, epoch, position])
        example = self.config.augmentation(self.examples[int(order[position])], rng)
        return pack(example, self.config.max_segments, self.config.keep_empty)


class Batches:
    """An endless iterator of batches whose position can be saved and restored.

    Its state doesn't depend on the number of processes, threads and workers, so a training run may
    resume with others. Close it, or use it in a `with` block, to end threads and workers early.
    """

    def __init__(self, stream: Stream, threads: int, workers: int):
        self.stream = stream
        self.threads = threads
        self.workers = workers
        self.step = 0
        self.reading: list[grain.DatasetIterator] = []  # one, or none when closed
        weakref.finalize(self, close_all, self.reading)  # also when Python ends
        self.restart()

    def restart(self):
        """Starts reading at the current step."""
        self.close()
        source = grain.MapDataset.source(self.stream)[self.step * self.stream.share :]
        ahead = max(self.threads, 2 * self.stream.share)
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=ahead)
        examples = source.to_iter_dataset(options)
        if self.workers:
            accept_unparsed_flags()
            processes = grain.MultiprocessingOptions(
                num_workers=self.workers, per_worker_buffer_size=-(-ahead // self.workers)
            )
            start = functools.partial(start_worker, max_pixels())
            examples = examples.mp_prefetch(processes, start)  # it keeps the order
        self.reading.append(iter(examples.batch(self.stream.share, batch_fn=stack)))

    def close(self):
        """Ends the threads and workers."""
        close_all(self.reading)

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object):
        self.close()

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> TrainBatch:
        if not self.reading:
            raise ValueError("the batches were closed")
        batch = next(self.reading[0])
        self.step += 1
        return batch

    @property
    def identity(self) -> dict[str, int]:
        """The settings that must be equal for batches to be equal."""
        config = self.stream.config
        return {
            "seed": config.seed,
            "batch_size": config.batch_size,
            "images": len(self.stream.examples),
        }

    def get_state(self) -> bytes:
        """Returns the position in the data, as JSON."""
        return json.dumps({"step": self.step, **self.identity}).encode()

    def set_state(self, state: bytes):
        """Moves to a position that `get_state` returned, of these or of equal batches.

        Raises:
            ValueError: the state isn't one, or is of other data, another seed or batch size.
        """
        try:
            values = dict(json.loads(state))
            step = int(values.pop("step"))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{state[:80]!r} isn't a place in training data") from error
        if values != self.identity:
            changed = ", ".join(
                f"{name} {values.get(name)} then, {now} now"
                for name, now in self.identity.items()
                if values.get(name) != now
            )
            raise ValueError(f"the data were left with other settings: {changed}; use the same")
        self.step = step
        self.restart()


def batches(
    examples: TrainingSet,
    config: DataConfig,
    *,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 8,
    workers: int = 0,
) -> Batches:
    """Returns endless batches of examples in random order, with random changes.

    Every process gets its part of each batch. The parts of all processes, in their order, are the
    batch that a single process would get. An epoch may end within a batch.

    Args:
        examples: the data; run `check_examples` on them first.
        config: the settings of the batches.
        process_index: the number of this process, such as `jax.process_index()`.
        process_count: how many processes there are, such as `jax.process_count()`.
        threads: number of images read at the same time, by each worker if there are any.
        workers: number of processes that read; 0 for threads of this one. Workers import the main
            script, so its own work belongs under `if __name__ == "__main__":`.

    Raises:
        ValueError: there are no examples, or the processes can't share a batch equally.
    """
    if len(examples) == 0:
        raise ValueError("there are no images to train on")
    if config.batch_size % process_count or not 0 <= process_index < process_count:
        raise ValueError(
            f"process {process_index} of {process_count} can't have its part of batches of "
            f"{config.batch_size}; choose a batch size that the number of processes divides"
        )
    share = config.batch_size // process_count
    return Batches(Stream(examples, config, process_index * share, share), threads, workers)


def close_all(iterators: list[grain.DatasetIterator]):
    """Closes iterators and empties the list: they can't be deleted once Python has ended."""
    while iterators:
        iterators.pop().close()


def start_worker(max_pixels: int, index: int, count: int):
    """Gives a worker the limit of pixels of the process that started it."""
    del index, count
    set_max_pixels(max_pixels)


def accept_unparsed_flags():
    """Marks absl's flags as parsed: Grain reads them when it starts workers."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()

"""Counts what many images cost: hours of devices, storage and money, from measured speeds.

    python benchmarks/cost_of_scale.py --hours 24 --gpu-price 3 --cpu-price 0.08

It measures nothing and compares nothing. Speeds are those of whole paths, from an image on the host
to its instances, in the records of docs/benchmarks. Prices are yours to give: those by default are
round numbers, in dollars.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import tyro
from measuring.tables import Table

RECORDS = Path(__file__).parents[1] / "docs" / "benchmarks"
GB = 1e6  # kB
SECONDS = 3600  # of an hour


@dataclass(frozen=True)
class Prices:
    """How many images there are, how large, and what things cost."""

    images: tuple[int, ...] = (1_000_000, 1_000_000_000)
    """How many images; a table for each."""
    hours: float = 24
    """The time for all images, from which the number of devices follows."""
    use: float = 0.8
    """The share of the time in which devices compute, and don't start, wait or redo lost parts."""
    gpu_price: float = 3.0
    """The price of an hour of a GPU with its share of a machine."""
    cpu_price: float = 0.08
    """The price of an hour of two processors."""
    image_kb: float = 200
    """The size of an image's file, in kB."""
    result_kb: float = 5
    """The size of an image's results in Parquet, in kB."""
    storage_price: float = 0.023
    """The price of storing a GB for a month."""
    reads_price: float = 0.4
    """The price of a million reads from storage, one for each image."""
    writes_price: float = 5
    """The price of a million writes to storage, one for each part."""
    part: int = 512
    """Images in a part."""


@dataclass(frozen=True)
class Speed:
    """A measured speed, in images a second of one device."""

    model: str
    device: str
    images: float
    price: float


def measured(prices: Prices) -> list[Speed]:
    """Returns the speeds that are in the records."""
    path = json.loads((RECORDS / "gpu-h100.json").read_text())["rows"]["path"]["figures"]
    [stream] = [x for x in path if x["what"] == "an image of a stream, instance, as it comes"]
    gpu = 1000 / stream["value"]
    speeds = [Speed("Swin-L, 1024 x 2048, bfloat16", "H100", gpu, prices.gpu_price)]
    for size in ("512x1024", "384x384"):
        record = json.loads((RECORDS / f"inference-epyc-{size}.json").read_text())
        [whole] = [x for x in record["rows"] if x["name"] == "image to instances"]
        images = 1000 / whole["values"]["m2f-jax"]
        name = f"Swin-T, {size.replace('x', ' x ')}, float32"
        speeds.append(Speed(name, "2 processors (EPYC)", images, prices.cpu_price))
    return speeds


def table(prices: Prices, images: int, speeds: list[Speed]) -> Table:
    """Returns what each device costs for so many images."""
    lines = []
    for speed in speeds:
        hours = images / speed.images / SECONDS / prices.use
        lines.append(
            {
                "model": speed.model,
                "device": speed.device,
                "images/s": speed.images,
                "device hours": hours,
                f"devices for {prices.hours:g} h": math.ceil(hours / prices.hours),
                "$": hours * speed.price,
            }
        )
    return Table.of(f"{images:,} images", lines)


def storage(prices: Prices, images: int) -> str:
    """Returns what so many images cost to store, read and write."""
    inputs, results = images * prices.image_kb / GB, images * prices.result_kb / GB
    parts = math.ceil(images / prices.part)
    transfers = (images * prices.reads_price + parts * prices.writes_price) / 1e6
    return (
        f"Images: {inputs:,.0f} GB. Results: {results:,.0f} GB in {parts:,} parts, "
        f"$ {results * prices.storage_price:,.2f} a month. Reading and writing: "
        f"$ {transfers:,.2f}. The list of finished images: {images * 32 / 1e6:,.0f} MB of memory."
    )


def main(prices: Prices):
    """Prints the tables."""
    for images in prices.images:
        print(table(prices, images, measured(prices)).markdown())
        print(storage(prices, images), end="\n\n")


if __name__ == "__main__":
    main(tyro.cli(Prices))

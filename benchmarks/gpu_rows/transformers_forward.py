"""The network of transformers with the same weights."""

import os

import numpy as np
import torch
from measuring.images import draw_images
from measuring.timing import timed
from peers.networks.settings import Settings
from peers.networks.transformers import Network

from gpu_rows.suite.job import Job, Measuring, describe_size, figure, time_call
from m2f_jax.sizes import Size


def load(job: Job) -> Network:
    """Returns the network with the weights."""
    settings = Settings(
        size=job.scale.size, dtype="bfloat16", device=job.device, tf32=True, threads=os.cpu_count()
    )
    return Network(job.weights(), settings)


def draw(batch: int, size: Size) -> np.ndarray:
    """Returns normalised images."""
    return np.random.default_rng(0).standard_normal((batch, *size, 3), np.float32)


def measure(job: Job) -> Measuring:
    """Measures the peer as it is: one image, its stages, batches, the whole path."""
    scale, peer = job.scale, load(job)
    pixel, one = peer.model.model.pixel_level_module, peer.maps(draw(1, scale.size))
    with torch.inference_mode():
        features = pixel.encoder(one).feature_maps
        pyramid = pixel.decoder(features, output_hidden_states=True)
    stages = peer.stages(one, features, pyramid.multi_scale_features, pyramid.mask_features)
    cases = [(1, scale.size), (scale.batch, scale.size), (scale.small_batch, scale.small)]
    whole = {f"whole forward, {describe_size(*x)}": peer.network(draw(*x)) for x in cases}
    calls = {
        **whole,
        **{f"{name}, {describe_size(*cases[0])}": call for name, call in stages.items()},
        "image to instances": peer.call(peer.segment, draw_images(1, scale.size)),
    }
    yield
    return [time_call(name, call) for name, call in calls.items()], {}


def measure_compiled(job: Job) -> Measuring:
    """Measures the peer through torch.compile."""
    peer, case = load(job), (1, job.scale.size)
    call = (peer.compiled if job.device == "cuda" else peer.network)(draw(*case))
    _, first = timed(call)
    yield
    found = time_call(f"whole forward, {describe_size(*case)}", call)
    return [found, figure("first call", first, "s")], {}

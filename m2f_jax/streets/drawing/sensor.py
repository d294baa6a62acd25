"""Effects of the camera: its own car in view, the frame, exposure, blur and noise."""

import numpy as np
from jaxtyping import Float32, UInt8

from m2f_jax.streets.drawing.canvas import Canvas
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.drawing.texture import noise
from m2f_jax.streets.drawing.view import View

EGO_VEHICLE, RECTIFICATION_BORDER, OUT_OF_ROI = 1, 2, 3


def draw_own_car(canvas: Canvas, view: View, rng: Random):
    """Draws the bonnet at the lower edge."""
    height, width = view.size
    top = height * (1 - rng.uniform(0.05, 0.12))
    side = rng.uniform(0.02, 0.05) * height
    x = np.linspace(-0.02, 1.02, 25)
    edge = top + side * (2 * x - 1) ** 4 * rng.uniform(1, 3) + side * 0.4 * (2 * x - 1) ** 2
    points = np.stack([x * width, edge], axis=1)
    outline = np.concatenate([points, [[1.1 * width, 1.2 * height], [-0.1 * width, 1.2 * height]]])
    color = view.lit(
        rng.color((0.10, 0.10, 0.11), (0.45, 0.46, 0.48), (0.12, 0.15, 0.22)), (0, 1, 0), True
    )
    sky = view.weather.zenith
    canvas.fill([outline], color * 0.6 + 0.4 * sky * 0.7, EGO_VEHICLE, tilt=(0.1, -0.9))
    below = points[::-1] + np.array([0, max(height / 250, 1)])
    rim = np.concatenate([points, below])
    canvas.fill([rim], color * 0.5, opacity=0.7)


def add_frame(canvas: Canvas, rng: Random):
    """Marks the edge of the image that rectification leaves dark or that isn't annotated."""
    width = canvas.size[1]
    wide = max(1, round(width / 400))
    for edge in (np.s_[:, :wide], np.s_[:, -wide:], np.s_[:wide], np.s_[-wide:]):
        canvas.owner[edge] = OUT_OF_ROI
    if rng.chance(0.5):
        line = max(1, round(width / 900))
        for edge in (np.s_[:, :line], np.s_[:line]):
            canvas.owner[edge] = RECTIFICATION_BORDER
            canvas.image[edge] = 0.01


def photograph(canvas: Canvas, view: View, rng: Random) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the image as the sensor records it."""
    image = canvas.image.clip(0, 1.4)
    height, width = canvas.size
    # Unevenness of all surfaces.
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    step = 1024 / width
    offset = rng.uniform(0, 512)
    image *= 1 + 0.05 * noise(x * step + offset, y * step)[..., None]
    across, down = (x - width / 2) / width, (y - height / 2) / width
    image *= (1 - rng.uniform(0.1, 0.5) * (across**2 + down**2)).astype(np.float32)[..., None]
    image = blur(image, rng.uniform(0.0, 0.5) * width / 1024 + rng.uniform(0, 0.15))
    # Whole numbers add up to the same sum in any order.
    total = int((image[::4, ::4] * 255).astype(np.int64).sum())
    mean = total / (image[::4, ::4].size * 255)
    gain = (rng.uniform(0.30, 0.46) / max(mean, 0.05)) ** 0.7
    balance = 1 + np.array([rng.uniform(-0.05, 0.05), 0, rng.uniform(-0.06, 0.06)])
    image *= (gain * balance).astype(np.float32)
    image = tone(image, rng.uniform(0.05, 0.45))
    raw = rng.octets(image.size * 3).reshape(3, *image.shape)
    grain = raw[0].astype(np.float32) + raw[1] + raw[2] - np.float32(382.5)  # deviation 128
    amount = np.float32((rng.uniform(0.8, 3.0) + (2.0 if view.weather.dark else 0.0)) / 128)
    image = image * np.float32(255) + grain * (amount * (0.6 + 0.6 * image))
    return (image + np.float32(0.5)).clip(0, 255).astype(np.uint8)


def blur(image: Float32[np.ndarray, "H W 3"], amount: Number) -> Float32[np.ndarray, "H W 3"]:
    """Blurs slightly; the amount is the share that goes to each neighbour, over 4."""
    side = np.float32(min(amount, 1.0) / 4)
    for axis in (0, 1):
        padded = np.pad(image, [(1, 1) if k == axis else (0, 0) for k in range(3)], mode="edge")
        before, after = (padded[:-2], padded[2:]) if axis == 0 else (padded[:, :-2], padded[:, 2:])
        image = image * (1 - 2 * side) + (before + after) * side
    return image


def tone(image: Float32[np.ndarray, "H W 3"], contrast: Number) -> Float32[np.ndarray, "H W 3"]:
    """Applies a soft shoulder instead of clipped highlights, and more or less contrast."""
    image = image * (1 + 0.18 * image) / (1 + 0.28 * image * image)
    image = image.clip(0, 1)
    curve = image * image * (3 - 2 * image)
    return image + (curve - image) * np.float32(contrast)

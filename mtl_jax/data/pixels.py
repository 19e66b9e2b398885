"""Pictures of every kind that Pillow opens, as uint8 arrays of one size and one number of channels."""

import numpy as np
from PIL import Image, ImageOps

FILTER = Image.Resampling.LANCZOS


def to_array(image: Image.Image, size: int | None, channels: int, invert: bool = False) -> np.ndarray:
    """Turn a Pillow image of any mode into an array, resized with an anti-aliasing filter.

    Gray of more than 8 bits is scaled as `eight_bits` says.

    Args:
        image: the picture; what is transparent in it becomes white.
        size: height and width in pixels, or None to leave them.
        channels: 1 or 3.
        invert: whether dark becomes bright, so that ink on paper is 255 on 0.

    Returns:
        [height, width, channels] uint8.

    Raises:
        ValueError: gray values that no known range holds.
    """
    if image.mode[0] in "IF":
        image = eight_bits(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    # To 8 bits a channel first: Pillow resizes 1-bit and palette images by NEAREST, whatever is asked.
    image = image.convert("L" if channels == 1 else "RGB")
    if invert:
        image = ImageOps.invert(image)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), FILTER)
    array = np.asarray(image, np.uint8)
    return array[..., None] if array.ndim == 2 else array


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale a gray picture of more than 8 bits (Pillow's modes I, I;16 and F) to 8 by its full range.

    The range is 0 to 65535 where the file says 16 bits (PNG, TIFF, PGM); else, as 32-bit integers and floats do not
    say, the smallest of 0 to 1 (floats alone), 0 to 255 and 0 to 65535 that holds the largest value. So two pictures
    of one camera are scaled alike, unless one is too dark to tell.

    Raises:
        ValueError: a negative or larger value, or one that is not finite.
    """
    values = np.asarray(image)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    ranges = [65535.0] if image.mode.startswith("I;16") or image.format == "PPM" else [255.0, 65535.0]
    ranges = [1.0, *ranges] if image.mode == "F" else ranges
    full = next((top for top in ranges if high <= top), None)
    if full is None or not low >= 0:
        raise ValueError(f"gray values from {low:g} to {high:g}: save it with 8 or 16 bits, or as floats in [0, 1]")
    return Image.fromarray(np.round(values.astype(np.float64) * (255 / full)).astype(np.uint8))


def resize(images: np.ndarray, size: int | None) -> np.ndarray:
    """Resize images [n, height, width, channels] uint8 to [n, size, size, channels]; None leaves them."""
    if size is None or images.shape[1:3] == (size, size):
        return images
    channels = images.shape[-1]
    return np.stack([to_array(Image.fromarray(x[..., 0] if channels == 1 else x), size, channels) for x in images])


def recolour(images: np.ndarray, channels: int | None) -> np.ndarray:
    """Images [n, height, width, 1 or 3] uint8 in 1 channel (their ITU-R 601 luma) or 3 equal ones; None leaves them.

    Raises:
        ValueError: channels other than 1 and 3.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels}")
    if channels in (None, images.shape[-1]):
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    return np.stack([to_array(Image.fromarray(x), None, 1) for x in images])

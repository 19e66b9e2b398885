"""What flips and padded crops can make of an image: how tests tell which of them was drawn."""

import numpy as np


def windows_of(image, turns=1):
    """Bytes of every window of the padded image and its mirror, turned fewer times than `turns`: what each is."""
    height, width = image.shape[:2]
    windows = {}
    for turned, mirrored, top, left in np.ndindex(turns, 2, 9, 9):
        padded = np.pad(image[:, ::-1] if mirrored else image, ((4, 4), (4, 4), (0, 0)))
        window = np.rot90(padded, turned)[top : top + height, left : left + width]
        windows[window.tobytes()] = (turned, mirrored, top, left)
    return windows

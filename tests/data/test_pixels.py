"""Gray of more than 8 bits: one rule for every mode and file format that Pillow opens."""

import numpy as np
import pytest
from PIL import Image

from mtl_jax.data.images import read_folder
from mtl_jax.data.pixels import to_array

RAMP = np.linspace(0, 1, 64).reshape(8, 8)
WANT = np.round(RAMP * 255)


def from_file(tmp_path, array, name):
    Image.fromarray(array).save(tmp_path / name)
    return read_folder(tmp_path, None, 1).images[0, ..., 0]


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_sixteen_bits_are_scaled_by_their_full_range(tmp_path, name):
    got = from_file(tmp_path, np.round(RAMP * 65535).astype(np.uint16), name)
    np.testing.assert_allclose(got, WANT, atol=1)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_dark_sixteen_bits_stay_dark(tmp_path, name):
    got = from_file(tmp_path, np.round(RAMP * 200).astype(np.uint16), name)
    assert got.max() <= 1


@pytest.mark.parametrize("top", [255, 65535])
def test_int32_is_scaled_by_the_range_that_holds_it(tmp_path, top):
    got = from_file(tmp_path, np.round(RAMP * top).astype(np.int32), "x.tif")
    np.testing.assert_allclose(got, WANT, atol=1)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floats_are_scaled_by_the_range_that_holds_them(tmp_path, top):
    got = from_file(tmp_path, (RAMP * top).astype(np.float32), "x.tiff")
    np.testing.assert_allclose(got, WANT, atol=1)


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 4), 100000, np.int32),
        np.full((4, 4), -1, np.int32),
        np.full((4, 4), -0.5, np.float32),
        np.full((4, 4), 1e6, np.float32),
        np.full((4, 4), np.nan, np.float32),
    ],
    ids=["int above", "int below", "float below", "float above", "nan"],
)
def test_values_of_no_known_range_are_refused_by_name(tmp_path, caplog, array):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(array).save(tmp_path / "strange.tif")
    read = read_folder(tmp_path, None, 1)
    assert read.skipped == 1
    assert "strange.tif (gray values from " in caplog.text
    with pytest.raises(ValueError, match="save it with 8 or 16 bits") as caught:
        to_array(Image.fromarray(array), None, 1)
    assert "\n" not in str(caught.value)


def test_big_endian_sixteen_bits():
    swapped = np.round(RAMP * 65535).astype(">u2")
    picture = Image.frombytes("I;16B", (8, 8), swapped.tobytes())
    np.testing.assert_allclose(to_array(picture, None, 1)[..., 0], WANT, atol=1)
    np.testing.assert_allclose(to_array(picture, None, 3)[..., 2], WANT, atol=1)

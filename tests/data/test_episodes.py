"""sample_episode: exact counts, no image twice, one class a label, and the same key the same episode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crops import windows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.data.augment import AUGMENTATIONS, COLOURED, distort, turn
from mtl_jax.data.batches import batch_classes, sample_batch
from mtl_jax.data.episodes import sample_episode
from mtl_jax.data.pool import ClassPool

COUNTS = (3, 9, 4, 6, 5)  # images of each class
CODES = np.arange(sum(COUNTS), dtype=np.uint8)  # image i is all i
LABELS = np.repeat(np.arange(len(COUNTS)), COUNTS)
# A pixel between others is placed to float32's last bits, and differs from its neighbours by up to 1.
LAST_BITS = {"rotations_affine": 1e-5, "dihedral_affine": 1e-5, "dihedral_elastic": 1e-5, "flip_crop_colours": 1e-6}


@pytest.fixture(scope="module")
def ragged():
    return ClassPool.from_arrays(np.broadcast_to(CODES[:, None, None, None], (len(CODES), 2, 2, 1)), LABELS)


def codes(x):
    """Which image of the ragged pool each one is."""
    return np.round(np.asarray(x)[:, 0, 0, 0] * 255).astype(int)


@settings(max_examples=12)
@given(seed=st.integers(0, 2**31 - 1), sizes=st.sampled_from([(1, 1, 1), (2, 1, 2), (3, 2, 1), (5, 1, 1)]))
def test_episode_is_what_was_asked_for(ragged, seed, sizes):
    ways, shots, queries = sizes
    ep = sample_episode(jax.random.key(seed), ragged, ways, shots, queries)
    support, query, classes = codes(ep.support_x), codes(ep.query_x), np.asarray(ep.classes)
    assert ep.support_x.shape == (ways * shots, 2, 2, 1)
    assert ep.query_x.dtype == jnp.float32
    assert ep.support_y.tolist() == np.repeat(np.arange(ways), shots).tolist()
    assert ep.query_y.tolist() == np.repeat(np.arange(ways), queries).tolist()
    assert len(set(classes.tolist())) == ways, "classes are drawn without replacement"
    both = np.concatenate([support, query])
    assert len(set(both.tolist())) == len(both), "no image twice: support and query are disjoint"
    # A ragged pool never gives a neighbour's image.
    assert (LABELS[support] == classes[np.asarray(ep.support_y)]).all()
    assert (LABELS[query] == classes[np.asarray(ep.query_y)]).all()


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_same_key_same_episode_jitted_and_vmapped(augment):
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    pool = ClassPool.from_arrays(images, np.repeat(np.arange(4), 6))

    def draw(key):
        return sample_episode(key, pool, 3, 1, 2, augment)

    keys = jax.random.split(jax.random.key(1), 4)
    plain = [draw(k) for k in keys]
    jitted = [jax.jit(draw)(k) for k in keys]
    batch = jax.jit(jax.vmap(draw))(keys)
    for i in range(4):
        for one, two, three in zip(plain[i], jitted[i], batch, strict=True):
            np.testing.assert_allclose(one, two, rtol=0, atol=LAST_BITS.get(augment, 1e-7))
            np.testing.assert_allclose(one, three[i], rtol=0, atol=LAST_BITS.get(augment, 1e-7))
    assert not np.array_equal(plain[0].support_x, plain[1].support_x), "another key gives another episode"
    for one, two in zip(plain[0], draw(keys[0]), strict=True):
        np.testing.assert_array_equal(one, two)


def test_rotations_are_exact_and_count_as_classes():
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 1), np.uint8)
    pool = ClassPool.from_arrays(images, np.repeat(np.arange(3), 2))
    ep = sample_episode(jax.random.key(0), pool, ways=12, shots=1, queries=1, augment="rotations")
    assert sorted(ep.classes.tolist()) == list(range(12))
    for x, y in ((ep.support_x, ep.support_y), (ep.query_x, ep.query_y)):
        for image, label in zip(np.asarray(x), np.asarray(y), strict=True):
            turns, base = divmod(int(ep.classes[label]), 3)
            turned = np.rot90(images[2 * base : 2 * base + 2], turns, axes=(1, 2)) / np.float32(255)
            assert np.isclose(turned, image, atol=1e-7).all((1, 2, 3)).sum() == 1


def test_an_affine_map_keeps_ramps_ramps_and_stays_within_its_bounds():
    size = 29  # inputs are rows and columns: what comes out says where each pixel was taken from
    where = np.stack(np.meshgrid(*2 * [np.arange(size, dtype=np.float32)], indexing="ij"), -1)
    taken = np.asarray(jax.vmap(partial(distort, x=where))(jax.random.split(jax.random.key(0), 200)), np.float64)
    inner = where[8:21, 8:21].reshape(-1, 2) - 14.0
    design = np.column_stack((inner, np.ones(len(inner))))
    maps = []
    for image in taken:
        fit, *_ = np.linalg.lstsq(design, image[8:21, 8:21].reshape(-1, 2), rcond=None)
        np.testing.assert_allclose(design @ fit, image[8:21, 8:21].reshape(-1, 2), atol=1e-4)
        maps.append(fit)
    maps = np.asarray(maps)
    moved = np.abs(maps[:, 2] - 14.0)
    assert 1.9 < moved.max() <= size / 14 + 1e-4
    area = np.linalg.det(maps[:, :2])
    assert 1 / 1.15**2 - 1e-4 < area.min() < 0.85 < 1.2 < area.max() < 1 / 0.85**2 + 1e-4
    turned = np.rad2deg(np.arctan2(maps[:, 1, 0], maps[:, 1, 1]))  # the columns' axis is turned and stretched alone
    assert 14 < np.abs(turned).max() <= 15.01
    assert (taken.min(), taken.max()) == (
        0.0,
        pytest.approx(size - 1, abs=1e-4),
    )  # the edge goes on outwards, and nothing else comes in


def test_affine_maps_come_on_top_of_the_rotations():
    pool = ClassPool.from_arrays(KINDS["uint8"], np.repeat(np.arange(4), 6))
    one, two = (sample_episode(jax.random.key(5), pool, 3, 1, 2, a) for a in ("rotations", "rotations_affine"))
    np.testing.assert_array_equal(one.classes, two.classes)
    keys = jax.random.split(jax.random.split(jax.random.key(5), 3)[2], (3, 3))
    want = jax.vmap(jax.vmap(distort))(keys[:, :1], one.support_x[:, None])
    np.testing.assert_allclose(two.support_x, want[:, 0], atol=1e-6)
    half = jax.vmap(jax.vmap(distort))(keys[:, :1], one.support_x[:, None].astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), want, atol=1e-2)  # 8 bits of values, not of places


def test_mirror_images_are_exact_and_count_as_classes_too():
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 1), np.uint8)
    for which in range(8):
        mirrored = images[:, :, ::-1] if which > 3 else images
        got = turn(jnp.asarray(images), jnp.int32(which), "dihedral_affine")
        np.testing.assert_array_equal(got, np.rot90(mirrored, which % 4, axes=(1, 2)))
    pool = ClassPool.from_arrays(images, np.repeat(np.arange(3), 2))
    ep = sample_episode(jax.random.key(0), pool, ways=24, shots=1, queries=1, augment="dihedral_affine")
    assert sorted(ep.classes.tolist()) == list(range(24))
    keys = jax.random.split(jax.random.split(jax.random.key(0), 3)[2], (24, 2))
    for label in range(24):  # both of its images, in one order or the other
        which, base = divmod(int(ep.classes[label]), 3)
        floats = jnp.asarray(images[2 * base : 2 * base + 2] / np.float32(255))
        both = turn(floats, jnp.int32(which), "dihedral_affine")
        want = [jax.vmap(distort)(keys[label], one) for one in (both, both[::-1])]
        got = np.stack((ep.support_x[label], ep.query_x[label]))
        assert np.isclose(want, got, atol=1e-5).all((1, 2, 3, 4)).sum() == 1


def test_flip_crop_gives_windows_of_the_padded_image_and_its_mirror():
    image = np.random.default_rng(0).integers(1, 256, (8, 8, 3), np.uint8)
    pool = ClassPool.from_arrays(np.stack([image] * 2), np.zeros(2, int))
    draw = jax.jit(jax.vmap(lambda k: sample_episode(k, pool, 1, 1, 1, "flip_crop").query_x[0]))
    got = np.round(np.asarray(draw(jax.random.split(jax.random.key(0), 600))) * 255).astype(np.uint8)
    windows = windows_of(image)
    found = [windows[x.tobytes()] for x in got]  # a KeyError: not a window
    _, mirrored, top, left = map(np.asarray, zip(*found, strict=True))
    assert abs(mirrored.mean() - 0.5) < 0.1
    for offset in (top, left):
        assert np.bincount(offset, minlength=9).min() > 600 / 9 / 2, "all nine offsets, about equally often"


def test_turned_classes_of_flip_crop_keep_their_mirror_images():
    image = np.random.default_rng(0).integers(1, 256, (8, 8, 3), np.uint8)
    pool = ClassPool.from_arrays(np.stack([image] * 2), np.zeros(2, int))
    windows = windows_of(image, turns=4)

    def places(x):
        return [windows[np.round(np.asarray(each) * 255).astype(np.uint8).tobytes()] for each in x]

    draw = jax.jit(jax.vmap(lambda k: sample_episode(k, pool, 4, 1, 1, "rotations_flip_crop")))
    ep = draw(jax.random.split(jax.random.key(0), 100))
    for part in (ep.support_x, ep.query_x):
        turns, mirrored, *_ = np.asarray(places(part.reshape(-1, 8, 8, 3))).T
        np.testing.assert_array_equal(turns, ep.classes.ravel())
        assert all(0.35 < mirrored[turns == k].mean() < 0.65 for k in range(4))
    batch = sample_batch(jax.random.key(1), pool, 200, "rotations_flip_crop")
    np.testing.assert_array_equal(np.asarray(places(batch.query_x))[:, 0], batch.query_y)
    assert batch_classes(pool, "rotations_flip_crop") == 4


def test_draws_are_uniform_over_classes_labels_and_images(ragged):
    n = 3000
    draw = jax.jit(jax.vmap(lambda k: sample_episode(k, ragged, 2, 1, 1)))
    ep = draw(jax.random.split(jax.random.key(0), n))
    for label in range(2):  # each class carries each label equally often: 5 sigma of a binomial count
        times = np.bincount(np.asarray(ep.classes)[:, label], minlength=5)
        assert np.abs(times - n / 5).max() < 5 * np.sqrt(n * 0.2 * 0.8)
    drawn = np.round(np.asarray(ep.support_x)[..., 0, 0, 0] * 255).astype(int).ravel()
    times = np.bincount(drawn, minlength=len(CODES)).astype(float)
    expected = 2 * n / 5 / np.asarray(COUNTS)[LABELS]
    assert np.abs(times - expected).max() < 5 * np.sqrt(expected.max())


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"ways": 6}, "6 ways from a pool of 5 classes"),
        ({"ways": 21, "augment": "rotations"}, "21 ways from a pool of 20 classes"),
        ({"shots": 2, "queries": 2}, "smallest class has 3"),
        ({"shots": 0}, "shots must be at least 1"),
        ({"queries": -1}, "queries must be at least 1"),
        ({"queries": 0}, "queries must be at least 1, not 0: a task is judged on its queries"),
        ({"ways": 0}, "ways must be at least 1"),
        ({"augment": "cutout"}, "unknown augmentation 'cutout'"),
    ],
)
def test_impossible_requests_say_why_in_one_line(ragged, request_, message):
    with pytest.raises(ValueError, match=message) as caught:
        sample_episode(jax.random.key(0), ragged, **({"ways": 2, "shots": 1, "queries": 1} | request_))
    assert "\n" not in str(caught.value)


def test_rotations_need_square_images():
    pool = ClassPool.from_arrays(np.zeros((4, 2, 3), np.uint8), np.asarray([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="square"):
        sample_episode(jax.random.key(0), pool, 2, 1, 1, "rotations")


KINDS = {
    "uint8": np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8),
    "images": np.random.default_rng(0).random((24, 8, 8, 3), np.float32),
    "features": np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32),
    "bfloat16": np.random.default_rng(0).normal(size=(24, 2, 5)).astype(jnp.bfloat16),
    "tokens": np.random.default_rng(0).integers(0, 1000, (24, 7)).astype(np.int32),
}


RECORDED = {
    "none": ([3, 1, 0], 6845582),
    "rotations": ([8, 3, 1], 7054670),
    "flip_crop": ([3, 1, 0], 4373958),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_episodes_inputs_are_the_pools_own(kind):
    x = KINDS[kind]
    pool = ClassPool.from_arrays(x, np.repeat(np.arange(4), 6))
    number = ClassPool.from_arrays(np.arange(24, dtype=np.int32)[:, None], np.repeat(np.arange(4), 6))
    key = jax.random.key(3)
    ep, which = (sample_episode(key, p, 3, 2, 2) for p in (pool, number))
    want = x / np.float32(255) if kind == "uint8" else x
    for got, row in ((ep.support_x, which.support_x), (ep.query_x, which.query_x)):
        assert got.dtype == pool.input_dtype
        # XLA may multiply by 1/255 where it is told to divide: the last bit of a byte's share
        atol = 1e-7 if kind == "uint8" else 0
        np.testing.assert_allclose(got, want[np.asarray(row)[:, 0]].astype(got.dtype), rtol=0, atol=atol)


@pytest.mark.parametrize("augment", RECORDED)  # rounding what was interpolated is not the same everywhere
def test_images_of_bytes_are_drawn_as_ever(augment):
    """A recorded sum: the same key gives the same episode in every version."""
    pool = ClassPool.from_arrays(KINDS["uint8"], np.repeat(np.arange(4), 6))
    ep = sample_episode(jax.random.key(5), pool, 3, 1, 2, augment)
    ramp = np.arange(ep.query_x.size).reshape(ep.query_x.shape) % 97
    pixels = np.round(np.asarray(ep.query_x, np.float64) * 255)
    assert (ep.classes.tolist(), int((pixels * ramp).sum())) == RECORDED[augment]


@pytest.mark.parametrize("augment", [a for a in AUGMENTATIONS[1:] if a not in COLOURED])
def test_float_images_are_augmented_as_bytes_are(augment):
    labels = np.repeat(np.arange(4), 6)
    pools = (ClassPool.from_arrays(x, labels) for x in (KINDS["uint8"], KINDS["uint8"] / np.float32(255)))
    one, two = (sample_episode(jax.random.key(5), pool, 3, 1, 2, augment) for pool in pools)
    np.testing.assert_allclose(one.query_x, two.query_x, rtol=0, atol=LAST_BITS.get(augment, 1e-7))
    np.testing.assert_array_equal(one.classes, two.classes)


@pytest.mark.parametrize("augment", AUGMENTATIONS[1:])
@pytest.mark.parametrize("kind", ["features", "bfloat16", "tokens"])
def test_augmentations_refuse_what_is_no_image(kind, augment):
    pool = ClassPool.from_arrays(KINDS[kind], np.repeat(np.arange(4), 6))
    for draw in (sample_episode, lambda key, pool, augment: sample_batch(key, pool, 3, augment)):
        with pytest.raises(ValueError, match=rf"{augment} is for images .* not inputs \[") as caught:
            draw(jax.random.key(0), pool, augment=augment)
        assert "\n" not in str(caught.value)


def test_a_request_too_large_names_the_split_and_the_smallest_class():
    x, y = np.zeros((5, 2), np.float32), np.asarray([0, 0, 0, 1, 2])
    pool = ClassPool.from_arrays(x, y, ("cat", "dog", "emu"), about="animals test")
    with pytest.raises(ValueError, match=r"smallest class, 'dog', has 1 image \(animals test\): it needs 2 or more"):
        sample_episode(jax.random.key(0), pool, 2, 1, 1)
    with pytest.raises(ValueError, match=r"5 ways from a pool of 3 classes \(animals test\)"):
        sample_episode(jax.random.key(0), pool, 5, 1, 1)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_no_rank_is_promoted_in_silence(augment):
    pool = ClassPool.from_arrays(KINDS["uint8"], np.repeat(np.arange(4), 6))
    with jax.numpy_rank_promotion("raise"):
        keys = jax.random.split(jax.random.key(0), 2)
        ep = jax.vmap(lambda k: sample_episode(k, pool, 3, 1, 2, augment))(keys)
        batch = sample_batch(keys[0], pool, 6, augment)
    assert ep.query_x.shape[:2] == (2, 6)
    assert batch.query_x.shape == (6, 8, 8, 3)

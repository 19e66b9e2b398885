"""Groups of inputs: an episode has one of a group at most, from a folder, a file or arrays, on device and host."""

import jax
import numpy as np
import pytest
from command_line import mtl_jax
from PIL import Image

from mtl_jax import ClassPool, datasets, sample_episode
from mtl_jax.app.features import write_features
from mtl_jax.data.host import host_batches

SIGNS, FRAMES = (4, 6, 5), 3  # groups of each class, inputs of each group


def arrays():
    """x [n, 2] with (class, group), rows in random order; a group's word occurs in every class."""
    rows = [(k, g) for k, many in enumerate(SIGNS) for g in range(many) for _ in range(FRAMES + g % 2)]
    x = np.asarray(rows, np.float32)[np.random.default_rng(0).permutation(len(rows))]
    return x, x[:, 0].astype(int), np.array([f"sign{g:.0f}" for g in x[:, 1]])


def grouped(episode):
    """The groups [ways, shots + queries] of an episode's inputs."""
    ways = episode.classes.shape[-1]
    parts = [np.asarray(part)[:, 1].reshape(ways, -1) for part in (episode.support_x, episode.query_x)]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("host", [False, True])
def test_an_episode_has_one_input_of_a_group_at_most_and_all_come_up_alike(host):
    x, y, groups = arrays()
    pool = ClassPool.from_arrays(x, y, host=host, groups=groups)
    assert (pool.smallest, pool.largest, pool.rarest) == (4, 6, 0)
    seen: dict = {}
    for step in range(40):
        episode = sample_episode(jax.random.key(step), pool, ways=3, shots=1, queries=3)
        drawn = grouped(episode)
        assert all(len(set(row)) == 4 for row in drawn.tolist())
        for k, row in zip(np.asarray(episode.classes).tolist(), drawn.tolist(), strict=True):
            for g in row:
                seen[k, g] = seen.get((k, g), 0) + 1
    assert len(seen) == sum(SIGNS)
    for k, many in enumerate(SIGNS):  # 160 draws per class over its groups, whatever the groups' sizes
        for g in range(many):
            assert abs(seen[k, g] - 160 / many) < 20


def test_within_a_group_every_input_comes_up():
    x = np.arange(24, dtype=np.float32)[:, None]
    pool = ClassPool.from_arrays(x, np.repeat((0, 1), 12), groups=np.arange(24) // 4)
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = jax.vmap(lambda k: sample_episode(k, pool, 2, 1, 1).support_x)(keys)
    assert set(np.asarray(drawn).ravel().tolist()) == set(range(24))


def test_the_host_draws_what_the_device_draws():
    x, y, groups = arrays()
    size = {"ways": 2, "shots": 2, "queries": 2}
    there = next(
        host_batches(jax.random.key(3), ClassPool.from_arrays(x, y, host=True, groups=groups), **size, tasks=2)
    )
    pool = ClassPool.from_arrays(x, y, groups=groups)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(3), 0), 2)
    here = jax.vmap(lambda k: sample_episode(k, pool, **size))(keys)
    jax.tree.map(np.testing.assert_array_equal, there, here)


def test_more_than_there_are_groups_is_refused_with_their_number():
    x, y, groups = arrays()
    pool = ClassPool.from_arrays(x, y, groups=groups)
    with pytest.raises(ValueError, match="smallest class has 4 groups: ask for at most 4 together"):
        sample_episode(jax.random.key(0), pool, ways=2, shots=2, queries=3)
    with pytest.raises(ValueError, match="give one group per input"):
        ClassPool.from_arrays(x, y, groups=groups[:-1])


@pytest.fixture
def signs(tmp_path, monkeypatch):
    """Two classes of three signs, each three frames of one gray value."""
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))
    for k in range(2):
        (tmp_path / "signs" / f"class{k}").mkdir(parents=True)
        for sign in range(3):
            for frame in range(3):
                gray = Image.new("L", (6, 6), 40 * (3 * k + sign) + 10)
                gray.save(tmp_path / "signs" / f"class{k}" / f"{sign:05}_{frame}.png")
    return tmp_path / "signs"


def test_a_folders_groups_are_found_in_names_kept_in_the_cache_and_carried_by_features(signs, tmp_path, monkeypatch):
    name = rf"folder:{signs}?group=/(\d+)_"
    for _ in range(2):  # the second is the cache's
        pool = datasets.load(name, "test", 6)
        assert pool.smallest == 3
        values = np.asarray(sample_episode(jax.random.key(0), pool, 2, 1, 2).support_x)
        assert values.shape == (2, 6, 6, 1)
    assert np.asarray(pool.groups.size).tolist() == [3] * 6
    monkeypatch.setattr("mtl_jax.app.features.embedder", lambda b: (lambda x: x.mean((1, 2)).astype(np.float32), 6))
    write_features("lite0", name, tmp_path / "f.npz", None, None)
    carried = datasets.load(f"npz:{tmp_path / 'f.npz'}", "test")
    assert np.asarray(carried.groups.size).tolist() == [3] * 6
    for group in range(6):
        rows = np.asarray(carried.x)[3 * group : 3 * group + 3]
        assert (rows == rows[0]).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--group-by", r"/(\d+)_", "--shots", "2", "--queries", "2"), "has 3 groups"),
        (("--group-by", "("), "is no regular expression"),
        (("--group-by", "sign"), "finds nothing in class0/"),
    ],
)
def test_the_command_line_refuses_in_one_line(signs, capsys, given, said):
    sizes = ("--ways", 2, "--steps", 1, "--tasks", 1, "--width", 2, "--image-size", 6)
    assert mtl_jax("train", "protonet", "--dataset", f"folder:{signs}", *sizes, *given, "--out", signs / "run") == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]


def test_groups_are_a_folders(capsys):
    assert mtl_jax("train", "protonet", "--dataset", "digits", "--group-by", "x") == 2
    assert "group-by is of the names of a folder's images" in capsys.readouterr().err

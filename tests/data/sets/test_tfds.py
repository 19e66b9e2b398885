"""tfds: any prepared classification set, found by name, its images and numbers as they are."""

import numpy as np
import pytest

from mtl_jax.data import datasets


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder where TFDS has prepared two sets of our own making: pictures, and numbers."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("tfds")

    class Build(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0), "test": self._generate_examples(1)}

    class SmallNumbers(Build):
        def _info(self):
            names = [f"kind {i}" for i in range(12)]
            features = {"values": tfds.features.Tensor(shape=(3,), dtype=np.float32)}
            features |= {"note": tfds.features.Text(), "kind": tfds.features.ClassLabel(names=names)}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), disable_shuffling=True)

        def _generate_examples(self, part):
            for i in range(12):
                yield i, {"values": np.asarray([i, part, 0], np.float32), "note": "x", "kind": i}

    class SmallWords(Build):
        def _info(self):
            features = {"note": tfds.features.Text(), "kind": tfds.features.ClassLabel(num_classes=2)}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), disable_shuffling=True)

        def _generate_examples(self, part):
            yield part, {"note": "x", "kind": part}

    for builder in (SmallNumbers, SmallWords):
        builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def test_numbers_of_all_parts_are_pooled_and_split_by_class(small, tmp_path, caplog):
    pools = {
        split: datasets.load("tfds:small_numbers", split, data_dir=small, cache_dir=tmp_path)
        for split in ("train", "val", "test")
    }
    assert {split: pool.classes for split, pool in pools.items()} == {"train": 8, "val": 2, "test": 2}
    for pool in pools.values():
        want = [[int(name.split()[1]), part, 0] for name in pool.names for part in (0, 1)]
        assert pool.x.tolist() == want
    assert "split by seed 0 into train 8, val 2, test 2" in caplog.text
    again = datasets.load("tfds:small_numbers:1.0.0?seed=1", "train", data_dir=small, cache_dir=tmp_path)
    assert again.names != pools["train"].names


def test_what_is_not_there_or_of_no_use_is_said_in_one_line(small):
    for name, message in (
        ("tfds:nothing", "no data set nothing: TFDS has not prepared it in .*, which has small_numbers, small_words"),
        ("tfds:small_numbers:2.0.0", "no data set small_numbers:2.0.0"),
        ("tfds:small_words", "has no image or numbers among kind, note"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            datasets.load(name, data_dir=small)
        assert "\n" not in str(caught.value)


def test_cifar_by_its_tfds_name_holds_what_cifar_fs_holds(real_data, tmp_path):
    published = real_data("cifar_fs", "val")
    split = tmp_path / "split.json"
    split.write_text(f'{{"val": {list(published.names)}}}'.replace("'", '"'))
    pool = datasets.load("tfds:cifar100", "val", image_size=32, split_file=split)
    assert pool.names == published.names
    np.testing.assert_array_equal(pool.x, published.x)

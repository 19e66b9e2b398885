"""Meta-transfer over a frozen ImageNet backbone: scales, shifts, factors or adapters learned on tasks of one domain.

Papers: Sun et al. 2019, arXiv 1812.02391 (mtl: scale_shift); Perez et al. 2018, arXiv 1709.07871 (film); Li et al.
    2022, arXiv 2107.00358 (tsa, and the form of mtl's adapters); Wang et al. 2019, arXiv 1911.04623 (simpleshot, here
    L2N); Tian et al. 2020, arXiv 2003.11539 (rfs). None of them prints these episodes.
Command: TFDS_DATA_DIR=... python experiments/meta_transfer.py [--sources omniglot] [--wav recordings]
    [--textures images] [--out runs/meta_transfer]. It goes on where it stopped.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import ClassPool, Learner, Model, datasets, evaluate, learners, models, train
from mtl_jax.app.features import in_batches
from mtl_jax.data import pixels
from mtl_jax.run.backend import configure_cpu
from mtl_jax.run.metrics import ci95, whole_file, write_json
from mtl_jax.run.optimizer import meta_optimizer, multiply_updates

BACKBONE, AFTER, SIZE, LENGTH = "lite0", 13, 128, 10.0
QUERIES, EPISODES, FEW = 15, 600, 100  # FEW: of the methods whose every task passes through the network many times
STEPS, TASKS, TRAIN_QUERIES, HEAD = 200, 4, 5, {"inner_lr": 0.3, "inner_steps": 20, "test_steps": 100}
# Per data set: images per class and classes at most, and which of its classes ImageNet has (probably) seen.
LIMITS = {
    "omniglot": (20, 200, "none seen"), "glyphs": (20, 200, "none seen"), "digits": (100, 10, "none seen"),
    "spoken digits": (100, 10, "none seen"), "textures": (120, 10, "no class; some kinds seen"),
    "fc100": (100, 20, "most seen"), "cifar_fs": (100, 20, "most seen"),
}  # fmt: skip
SOURCES = {"omniglot": (20, 400), "glyphs": (20, 400), "cifar_fs": (100, 64)}  # images per class and classes at most
# The head's outer rate, and factors of other parts': Adam moves a number by its rate per step, whatever its size.
RATES = {"none": (2e-3, {}), "scale_shift": (2e-3, {}), "film": (2e-3, {}), "adapters": (2e-3, {"adapters": 0.1})}


def of_length(net: Model, length: float = LENGTH) -> Model:
    """The same network whose features have one length: what one learning rate of a head suits everywhere."""

    def apply(params: dict, x: jax.Array, stats: None = None) -> tuple[jax.Array, None]:
        z, _ = net.apply({k: v for k, v in params.items() if k != "head"}, x)
        z = length * z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
        return (z @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else z), None

    return Model(net.init, apply)


def images_of(name: str, split: str, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """A data set's images [n, h, w, 3] uint8 and labels [n]; of textures those of all splits."""
    places = {"spoken digits": f"wav:{args.wav}?test=theo,yweweler&val=nicolas", "textures": f"folder:{args.textures}"}
    side = {"textures": SIZE}.get(name)
    parts, first = [], 0
    for each in ("train", "val", "test") if name == "textures" else (split,):
        pool = datasets.load(places.get(name, name), each, side, channels=3, host=True)
        labels = np.repeat(np.arange(pool.classes), np.asarray(pool.count))
        parts.append((np.asarray(pool.x), labels + first))
        first += pool.classes
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def maps_of(name: str, split: str, most: tuple[int, int], args: argparse.Namespace) -> ClassPool:
    """The maps [n, 4, 4, 192] of a data set's first classes after the block, made once and kept in a file."""
    file = args.out / "maps" / f"{name}-{split}.npz".replace(" ", "-")
    if not file.exists():
        x, labels = images_of(name, split, args)
        rank = np.arange(len(labels)) - np.searchsorted(labels, labels)
        kept = (rank < most[0]) & (labels < most[1])
        below, params = models.pretrained_maps(BACKBONE, AFTER)
        below = jax.jit(below)
        embed = partial(in_batches, lambda x: below(params, x.astype(jnp.float32) / 255.0), most=32)
        x, y = x[kept], labels[kept]
        z = np.concatenate([embed(pixels.resize(x[i : i + 512], SIZE)) for i in range(0, len(x), 512)])
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as temporary, temporary.open("wb") as target:
            np.savez(target, x=z, y=y)
    with np.load(file) as arrays:
        return ClassPool.from_arrays(arrays["x"], arrays["y"], host=True)


def features_of(net: Model, body: dict, pool: ClassPool) -> ClassPool:
    """The features of all maps of a pool: what a network that no task changes makes of them."""
    apply = jax.jit(lambda body, x: net.apply(body, x)[0])
    z = in_batches(lambda x: apply(body, x), pool.x, 128)
    return ClassPool.from_arrays(z, np.repeat(np.arange(pool.classes), np.asarray(pool.count)))


def plain(ways: int | None) -> Model:
    """Features as they are, with a linear head given ways."""

    def apply(params: dict, x: jax.Array, stats: None = None) -> tuple[jax.Array, None]:
        return (x @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else x), None

    def start(key: jax.Array, x: jax.Array) -> dict:
        return {} if ways is None else {"head": {"kernel": jnp.zeros((x.shape[1], ways)), "bias": jnp.zeros(ways)}}

    return Model(start, apply)


def meta_train(transfer: str, source: str, pool: ClassPool, args: argparse.Namespace) -> tuple[dict, dict, float]:
    """mtl over the maps: (the body that it ends with, the head that tasks start from, seconds of training)."""
    learner = learners.mtl(of_length(models.pretrained(BACKBONE, 5, after=AFTER)[0]), transfer=transfer, **HEAD)
    rate, slower = RATES[transfer]
    rule = multiply_updates(meta_optimizer(rate, args.steps), slower)
    began, folder = time.perf_counter(), args.out / f"{source}-{transfer}"
    size = {"ways": 5, "shots": 5, "queries": TRAIN_QUERIES, "tasks": TASKS, "steps": args.steps}
    run = train(
        learner, pool, jax.random.key(0), **size, optimizer=rule, log_every=10, val_every=50, out=folder,
        resume=(folder / "checkpoints").exists(),
    )  # fmt: skip
    if run.interrupted:
        raise KeyboardInterrupt
    x = jnp.asarray(pool.x[:5])
    params = jax.jit(learner.adapt)(run.theta, x, jnp.arange(5)).params
    body = {k: v for k, v in params.items() if k != "head"}
    return body, run.theta["head"], time.perf_counter() - began


def adapting() -> dict[str, Learner]:
    """Methods whose every task changes the part of the network past the block, from ImageNet's weights."""
    net = models.pretrained(BACKBONE, after=AFTER)[0]
    whole = of_length(models.pretrained(BACKBONE, 5, after=AFTER)[0])
    return {
        "tsa": learners.tsa(net, 2, inner_steps=20, ways=5),
        "full fine-tuning": learners.maml(whole, inner_steps=20, order=1, inner_optimizer=optax.adam(1e-3)),
    }


def scored(file: Path, learner: Learner, theta: dict, pool: ClassPool, shots: int, episodes: int = EPISODES) -> None:
    """Keep the accuracies of the first so many of a target's episodes, which are the same for all methods."""
    if not file.exists():
        size = {"ways": 5, "shots": shots, "queries": QUERIES, "episodes": episodes}
        chunk = 1 if episodes == FEW else None
        seen = evaluate(learner, theta, pool, jax.random.key(1), **size, task_chunk=chunk)
        print(f"{file.stem}: {100 * seen.accuracy:.2f} ± {100 * seen.ci95:.2f}", flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, seen.per_episode)


def record(args: argparse.Namespace, seconds: dict[str, float]) -> None:
    """Write what has been scored, with gaps to SimpleShot and of mtl to its baseline over the episodes both have."""
    rows = []
    for target, (*_, leakage) in LIMITS.items():
        for shots in (1, 5):
            ending = f"@{target}@{shots}.npy"
            seen = {f.name.removesuffix(ending): np.load(f) for f in sorted((args.out / "scores").glob(f"*{ending}"))}
            for name, values in seen.items():
                row = {"method": name, "target": target, "shots": shots, "episodes": len(values), "leakage": leakage}
                row |= {"accuracy": values.mean(dtype=np.float64), "ci95": ci95(values)}
                source = name.partition(" from ")[2]
                for other, against in (("simpleshot", "simpleshot"), ("baseline", f"mtl none from {source}")):
                    if against in seen and against != name:
                        n = min(len(values), len(seen[against]))
                        gap = values[:n] - seen[against][:n]
                        row |= {f"over_{other}": gap.mean(dtype=np.float64), f"over_{other}_ci95": ci95(gap)}
                rows.append(row)
    about = {"experiment": "meta_transfer", "norm": "frozen", "hardware": "two shared CPU cores", "ways": 5}
    about |= {"steps": args.steps, "train_seconds": seconds}
    write_json(args.out / "result.json", {**about, "transfer": rows})


def main() -> None:
    """Make the maps, meta-train each kind of transfer, then score all methods; the record is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", choices=tuple(SOURCES), nargs="+", default=["omniglot"])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--wav", type=Path, help="folder of free-spoken-digit-dataset's recordings")
    parser.add_argument("--textures", type=Path, help="folder of pan8915/DeepTexture's images")
    parser.add_argument("--out", type=Path, default=Path("runs/meta_transfer"))
    args = parser.parse_args()
    configure_cpu()
    given = {"spoken digits": args.wav, "textures": args.textures}
    targets = {
        name: maps_of(name, "test", limits[:2], args) for name, limits in LIMITS.items() if given.get(name, name)
    }
    net, params = models.pretrained(BACKBONE, after=AFTER)
    scores, told = args.out / "scores", args.out / "result.json"
    seconds = json.loads(told.read_text(encoding="utf-8"))["train_seconds"] if told.exists() else {}

    def score_all(names: dict[str, tuple[Learner, dict]], net: Model, body: dict) -> None:
        """Score heads on the features of one body."""
        for target, pool in targets.items():
            features = features_of(net, body, pool)
            for name, (learner, theta) in names.items():
                for shots in (1, 5):
                    scored(scores / f"{name}@{target}@{shots}.npy", learner, theta, features, shots)
        record(args, seconds)

    simple, logistic = learners.simpleshot(plain(None), 2, centred=False, ways=5), learners.rfs(plain(None), 2, ways=5)
    z = jnp.ones((1, 1280))
    heads = {
        "simpleshot": (simple, simple.init(jax.random.key(0), z)),
        "rfs": (logistic, logistic.init(jax.random.key(0), z)),
    }
    score_all(heads, net, params)
    head_alone = learners.mtl(plain(5), transfer="none", **HEAD)
    for source in args.sources:
        pool = maps_of(source, "train", SOURCES[source], args)
        for transfer in RATES:
            name = f"mtl {transfer} from {source}"
            if all((scores / f"{name}@{target}@{shots}.npy").exists() for target in targets for shots in (1, 5)):
                continue
            body, head, seconds[f"{transfer} from {source}"] = meta_train(transfer, source, pool, args)
            of_all = {name: (head_alone, {"frozen": {}, "head": head})}
            score_all(of_all, of_length(net), body)
    for name, learner in adapting().items():
        for target, pool in targets.items():
            x = jnp.asarray(pool.x[:1])
            for shots in (5, 1):
                file = scores / f"{name}@{target}@{shots}.npy"
                scored(file, learner, learner.init(jax.random.key(0), x), pool, shots, FEW)
                record(args, seconds)


if __name__ == "__main__":
    main()

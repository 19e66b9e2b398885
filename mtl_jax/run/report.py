"""report: a trained network's test scores over data sets' shots and norms, as rows of a table."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import jax

from mtl_jax.data.pool import ClassPool
from mtl_jax.run import setup
from mtl_jax.run.evaluate import evaluate
from mtl_jax.run.methods import build_learner
from mtl_jax.run.train import forget
from mtl_jax.types import Learner, PyTree


def score_rows(
    learner: Callable[[str], Learner],
    theta: PyTree,
    pool: ClassPool,
    title: str,
    ways: int = 5,
    shots: Sequence[int] = (1, 5),
    queries: int = 15,
    episodes: int = 1000,
    norms: Sequence[str] = ("transductive", "support"),
    task_chunk: int | None = None,
) -> list[dict[str, Any]]:
    """Test under every number of shots and every norm, always on the same episodes, and print a line for each.

    Args:
        learner: norm -> Learner, of the method that was trained.
        theta: its meta-learned parameters.
        pool: the classes to test on.
        title: what the lines begin with, such as "protonet on omniglot".
        ways, queries, episodes: the size and number of the episodes.
        shots: support images a class, each in its turn.
        norms: of "transductive", "support" and "none".
        task_chunk: episodes at a time; chosen by backend and size unless given.

    Returns:
        Rows of norm, ways, shots, queries, episodes, accuracy and ci95 (fractions).
    """
    rows = []
    for k in shots:
        for norm in norms:
            key = jax.random.key(1)
            seen = evaluate(learner(norm), theta, pool, key, ways, k, queries, episodes, task_chunk=task_chunk)
            print(f"{title}, {ways}-way {k}-shot, norm {norm}: {100 * seen.accuracy:.2f} ± {100 * seen.ci95:.2f} %")
            rows.append(
                {"norm": norm, "ways": ways, "shots": k, "queries": queries, "episodes": episodes}
                | {"accuracy": seen.accuracy, "ci95": seen.ci95}
            )
    return rows


def score_run(folder: str | PathLike[str], dataset: str | None = None, **settings: Any) -> list[dict[str, Any]]:
    """`score_rows` of a run at its best validation, on the test classes of its data set or of another.

    Args:
        folder: the run's.
        dataset: where to test; its images are given the size and the channels that the run was trained on.
        settings: ways, shots, queries, episodes, norms and task_chunk of `score_rows`.

    Returns:
        Rows as `score_rows` gives them, with "dataset".

    Raises:
        FileNotFoundError, ValueError: the folder holds no run, or the data set no such tasks.
    """
    config = setup.read_config(folder)
    name = dataset or config["dataset"]
    ways, pool = settings.get("ways", 5), setup.load_pool(config, "test", name)

    def learner(norm: str) -> Learner:
        return build_learner({**config, "norm": norm}, ways)

    title = f"{config['learner']} on {name}"
    rows = score_rows(learner, setup.load_theta(folder, config), pool, title, **settings)
    forget()  # the learners were made here
    return [{"dataset": name, **row} for row in rows]

"""How good a classifier will be, from its support set alone: each image judged by a learner that has not seen it."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.run.evaluate import BINS
from mtl_jax.run.metrics import wilson
from mtl_jax.run.parallel import auto_chunk, map_in_chunks
from mtl_jax.types import Array, Episode, Learner, PyTree

PARTS = 10  # into which a support set is divided at most
TEMPERATURES = 2.0 ** np.linspace(-6, 6, 61)  # what logits are multiplied by, the best of which is taken
NEAR_ONE = 0.3  # what a temperature of 2 or 1/2 must save of the sum of -log p


class HeldOut(NamedTuple):
    """The support images of classes of two or more, each left out: logits [m, ways], and labels [m]."""

    logits: np.ndarray
    labels: np.ndarray


class Estimate(NamedTuple):
    """What to expect of new images, if they are like the support set's.

    Attributes:
        accuracy, low, high: share of the left-out images that is right, and its 95 % interval.
        images: how many were left out.
        temperature: what logits are multiplied by for probabilities as likely as they say.
        ece_before, ece_after: calibration error of the left-out images without and with it, in 15 bins.
        nll: their mean -log p(own class), with it.
        confidences: [images] each one's logit of its likeliest class, ascending: what `threshold` looks at.
    """

    accuracy: float
    low: float
    high: float
    images: int
    temperature: float
    ece_before: float
    ece_after: float
    nll: float
    confidences: np.ndarray


def class_means(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of each class's features, and how much farther from them a new image is for their few images.

    c_k = mean of u_i over class k;  s^2 = sum_i ||u_i - c_{y_i}||^2 / (n - classes);  excess_k = s^2 / n_k

    E ||u - c_k||^2 = E ||u - mu_k||^2 + s^2 / n_k: were it not taken off, a class of many images, whose mean lies
    nearer to everything, would draw images away from a class of few. Frozen lite0 at 128 pixels on CIFAR-FS test, 100
    tasks of 5 classes with 1, 2, 3, 5 and 10 images: 65.2 % right without and 83.7 % with it; classes of one size are
    ranked alike.

    Args:
        features: [n, d].
        labels: [n] in [0, classes), each of which occurs.

    Returns:
        (means [classes, d], excess [classes]), zeros where no class has two images.
    """
    features, count = np.asarray(features, np.float64), np.bincount(labels)
    sums = np.zeros((len(count), features.shape[1]))
    np.add.at(sums, labels, features)
    means = sums / count[:, None]
    spare = len(labels) - len(count)
    spread = np.square(features - means[labels]).sum() / spare if spare else 0.0
    return means, spread / count


def left_out_of_means(features: np.ndarray, labels: np.ndarray) -> HeldOut:
    """Squared distances of each image to the `class_means` of the others, less their excess, in place of logits.

    Args:
        features: [n, d].
        labels: [n] in [0, classes).
    """
    features, count = np.asarray(features, np.float64), np.bincount(labels)
    means, excess = class_means(features, labels)
    spread = float(excess[0] * count[0]) * (len(labels) - len(count))  # sum of squares within all classes
    judged = np.flatnonzero(count[labels] > 1)
    distances = np.zeros((len(judged), len(count)))
    for row, i in enumerate(judged):
        k, m = labels[i], count[labels[i]]
        apart = np.square(features[i] - means).sum(-1)
        of_others = apart[k] * (m / (m - 1)) ** 2  # to the mean of its class's others
        spare = len(labels) - 1 - len(count)
        left = max(spread - apart[k] * m / (m - 1), 0.0) / spare if spare else 0.0
        apart[k] = of_others
        distances[row] = apart - left / (count - (np.arange(len(count)) == k))
    return HeldOut(distances, labels[judged])


def refitted(
    learner: Learner, theta: PyTree, x: Array, labels: np.ndarray, parts: int | None = None, together: bool = False
) -> HeldOut:
    """Logits of each image by a learner that has adapted to the others.

    phi_p = adapt(theta, all but part p);  logits of part p = predict(theta, phi_p, part p)

    Args:
        learner: the method, for as many ways as there are classes.
        theta: its meta-learned parameters.
        x: [n, ...] the support set.
        labels: [n] in [0, ways); a class of one image is never left out.
        parts: into how many parts the images are divided; as many as the largest class has, 10 at most, unless given.
        together: whether queries are normalised by the moments of their batch: then all images are asked for, and
            those of the part are looked at.

    Returns:
        HeldOut, in the order of x. Classes of one size lose one image each per part: to leave out a single one would
        set a class of fewer images against all others. They have less to learn from than they will have, so that what
        follows from this is a little low, most so with two images per class.
    """
    judged = np.flatnonzero(np.bincount(labels)[labels] > 1)
    if not len(judged):
        return HeldOut(np.zeros((0, int(labels.max()) + 1)), labels[:0])
    kept, tested = split(labels, min(parts or min(int(np.bincount(labels).max()), PARTS), len(judged)))
    y = jnp.asarray(labels)

    @jax.jit
    def logits(theta: PyTree, x: Array) -> Array:
        def of_part(part: tuple[Array, Array]) -> Array:
            keep, test = part
            phi = learner.adapt(theta, x[keep], y[keep])
            return learner.predict(theta, phi, x)[test] if together else learner.predict(theta, phi, x[test])

        both = jnp.asarray(kept), jnp.asarray(np.maximum(tested, 0))
        one = Episode(x[: kept.shape[1]], y, x[: len(labels) if together else tested.shape[1]], y)
        return map_in_chunks(of_part, both, auto_chunk(one, len(kept)))

    seen = np.asarray(logits(theta, x), np.float64)  # [parts, most, ways]
    found = np.zeros((len(labels), seen.shape[-1]))
    found[tested[tested >= 0]] = seen[tested >= 0]
    return HeldOut(found[judged], labels[judged])


def split(labels: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide the images of classes of two or more, no class as a whole in one part.

    Args:
        labels: [n] in [0, classes).
        parts: from 2 to the number of such images.

    Returns:
        (kept [parts, n - most] the images to learn from, tested [parts, most] those left out, -1 where a part has one
        less than the others). All parts are of one shape, for one program: those that test less leave out one more
        image of the largest class.
    """
    count = np.bincount(labels)
    judged = np.flatnonzero(count[labels] > 1)
    judged = judged[np.argsort(labels[judged], kind="stable")]  # neighbours, of one class, go to different parts
    most = -(-len(judged) // parts)
    tested = np.full((parts, most), -1)
    kept = np.zeros((parts, len(labels) - most), int)
    for part in range(parts):
        mine = judged[part::parts]
        tested[part, : len(mine)] = mine
        rest = np.setdiff1d(np.arange(len(labels)), mine)
        if len(mine) < most:
            left = np.bincount(labels[rest], minlength=len(count))
            rest = np.delete(rest, np.flatnonzero(labels[rest] == left.argmax())[-1])
        kept[part] = rest
    return kept, tested


def estimate(held: HeldOut) -> Estimate | None:
    """What the left-out images say; None where there are none.

    The temperature t is that of the least sum over left-out images of -log p(own class) + 0.3 (log2 t)^2: the nearer
    to 1 the fewer images there are, so that a few that are all right do not make it infinite. The error after it is of
    each image under the temperature of the others.

    Note: by the weight of (log2 t)^2, calibration error of new images, 40 tasks of lite0 at 128 pixels on CIFAR-FS test
    with 2, 5 and 10 images per class: at t = 1 0.168, 0.240, 0.239; weight 0 0.128, 0.066, 0.046; 0.3 0.112, 0.063,
    0.048; 1 0.113, 0.073, 0.053. Of ProtoNet on Omniglot, 2 images per class, it is 0.019 in each case, and weight 0
    has four times the -log p.
    """
    logits, labels = held
    if not len(labels):
        return None
    n = len(labels)
    rows = np.arange(n)
    log_p = np.stack([_log_softmax(t * logits) for t in TEMPERATURES])  # [temperatures, n, ways]
    loss = -log_p[:, rows, labels]
    prior = NEAR_ONE * np.log2(TEMPERATURES) ** 2
    chosen = int((loss.sum(1) + prior).argmin())
    others = (loss.sum(1)[:, None] - loss + prior[:, None]).argmin(0)  # [n]
    right = logits.argmax(1) == labels
    share = float(right.mean())
    before, after = np.exp(_log_softmax(logits)).max(1), np.exp(log_p[others, rows]).max(1)
    return Estimate(
        share,
        *wilson(share, n),
        n,
        float(TEMPERATURES[chosen]),
        calibration_error(before, right),
        calibration_error(after, right),
        float(loss[others, rows].mean()),
        np.sort(logits.max(1)),
    )


def threshold(confidences: np.ndarray, rate: float) -> float:
    """The confidence below which a class is left empty: floor(rate n) of the n left-out images lie below it."""
    return float(np.sort(confidences)[math.floor(rate * len(confidences))])


def calibration_error(sure: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: sum over bins of |mean confidence - share right| times the bin's share of images."""
    place = np.clip((sure * BINS).astype(int), 0, BINS - 1)
    gaps = np.zeros(BINS)
    np.add.at(gaps, place, sure - right)
    return float(np.abs(gaps).sum() / len(sure))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    top = logits - logits.max(-1, keepdims=True)
    return top - np.log(np.exp(top).sum(-1, keepdims=True))

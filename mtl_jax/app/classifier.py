"""A trained run or a frozen backbone, adapted to one support set: a function of images."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.app import features
from mtl_jax.app.build import build_learner, network
from mtl_jax.app.held_out import HeldOut, class_means, left_out_of_means, refitted
from mtl_jax.app.methods import change, find_method, note_on_shots
from mtl_jax.app.moments import batch_moments
from mtl_jax.app.pictures import Support
from mtl_jax.app.settings import Settings
from mtl_jax.types import Array, Learner, PyTree

log = logging.getLogger(__name__)

BATCH = 256  # images at a time through a run's network
TOGETHER = 2**19  # pixels of images that are normalised together in one batch; more are taken a few at a time
SHARPNESS = 8.0  # what a backbone's squared distances are multiplied by, before any calibration


class Classifier(NamedTuple):
    """A function of images, and what must be known to use it.

    Attributes:
        names: [ways] the classes.
        shape: (height, width, channels) of an image.
        norm: "transductive", "support", "none" or "frozen".
        weights: what `outputs` computes with, a tree of arrays.
        outputs: (weights, x [n, height, width, channels] uint8) -> (logits [n, ways], what is compared [n, d]), pure.
        compares: what that is: "features" or "outputs".
        together: whether an image's outputs depend on the others of its batch.
        batch: images at a time, where they do not.
        held_out: (parts) -> HeldOut, the support set's images judged by the others in as many parts, None for as many
            as suit (a backbone's are each left out alone); where there is no support set, None.
        normalised_by: images -> the same classifier, which normalises by their moments and takes them a few at a time;
            where an image's outputs depend on the others of its batch, else None.
    """

    names: tuple[str, ...]
    shape: tuple[int, int, int]
    norm: str
    weights: PyTree
    outputs: Callable[[PyTree, Array], tuple[Array, Array]]
    compares: str
    together: bool
    batch: int
    held_out: Callable[[int | None], HeldOut] | None
    normalised_by: Callable[[np.ndarray], "Classifier"] | None = None


def of_run(
    settings: Settings,
    theta: PyTree,
    known: Support,
    invert: bool = False,
    copies: Mapping[str, Any] | None = None,
) -> Classifier:
    """Adapt a run's learner to a support set.

    Args:
        settings: the run's; under norm="transductive" all queries are one batch, whose moments each uses, so that the
            answer for one image depends on which others are asked for; under "support" each is on its own.
        theta: the run's meta-learned parameters.
        known: the support set, of `image_shape_of(settings)`.
        invert: turn dark ink on light ground into the light on dark that glyphs and omniglot have.
        copies: augmented ones of each support image, as `build_learner` takes them.

    Raises:
        ValueError: ways that the run's head does not have.
    """
    learner, method = build_learner(settings, len(known.names), copies=copies), find_method(settings.learner)
    each = 1 + copies["support_copies"] if copies else 1
    if note := note_on_shots(settings, (each * np.bincount(known.labels)).tolist()):
        log.warning(note)
    by_moments = settings.network.norm == "transductive"
    together = by_moments or method.transductive
    backbone, stored = None, ()
    if settings.network.backbone is not None:
        backbone, stored = features.backbone_of(settings.network.backbone)

    def pixels(x: Array) -> Array:
        return (255 - x if invert else x).astype(jnp.float32) / 255.0

    def inputs(stored: PyTree, x: Array) -> Array:
        return pixels(x) if backbone is None else backbone(stored, 255 - x if invert else x)

    if backbone is None:
        x = pixels(jnp.asarray(known.images))
    else:
        embed = jax.jit(inputs)
        x = jnp.asarray(features.in_batches(lambda x: embed(stored, x), known.images, features.BATCH))
    y = jnp.asarray(known.labels)
    phi = jax.jit(lambda theta, x: learner.adapt(theta, x, y))(theta, x)  # y is seen, so that labels are checked
    compared, compares = _compared(settings, learner, len(known.names))

    def outputs(weights: PyTree, x: Array) -> tuple[Array, Array]:
        theta, phi, stored = weights
        seen = inputs(stored, x)
        return learner.predict(theta, phi, seen), compared(theta, phi, seen)

    def held_out(parts: int | None) -> HeldOut:
        return refitted(learner, theta, x, np.asarray(known.labels), parts, together)

    names, shape, norm = known.names, image_shape_of(settings), settings.network.norm
    few = max(1, min(features.BATCH if backbone else BATCH, TOGETHER // (shape[0] * shape[1])))
    whole = Classifier(names, shape, norm, (theta, phi, stored), outputs, compares, together, few, held_out)
    # Of the method's own looking at all queries there is no doing a few at a time; maps are normalised pair by pair.
    if not by_moments or method.transductive or method.network == "maps":
        return whole

    def normalised_by(images: np.ndarray) -> Classifier:
        """phi with the moments of all images, as a learner under norm="support" has those of the support set."""
        frozen = change(settings, norm="support")
        follower, body = build_learner(frozen, len(names)), _body(theta, phi)
        net = network(frozen, len(names) if method.network == "head" else None)
        stats = batch_moments(net, body, images, pixels, lambda f, x: features.in_batches(f, x, max(1, few // 4)))
        compared, _ = _compared(frozen, follower, len(names))

        def outputs(weights: PyTree, x: Array) -> tuple[Array, Array]:
            theta, phi, _ = weights
            return follower.predict(theta, phi, pixels(x)), compared(theta, phi, pixels(x))

        return whole._replace(weights=(theta, phi._replace(stats=stats), stored), outputs=outputs, together=False)

    return whole._replace(normalised_by=normalised_by)


def of_backbone(name: str, known: Support) -> Classifier:
    """The nearest mean of a frozen backbone's features; nothing is trained.

    c_k = mean of u(x) over the support of class k, u(x) = f(x) / ||f(x)||;
    logits are -8 (||u(x) - c_k||^2 - s^2 / n_k), with s^2 the spread within classes: see `class_means`

    Args:
        name: as `pretrained` takes it, or a file of weights.
        known: the support set, of 3 channels.

    Raises:
        ValueError: as `pretrained`.
    """
    unit, params = features.backbone_of(name)
    embed = jax.jit(unit)
    seen = features.in_batches(lambda x: embed(params, x), known.images, features.BATCH)
    means, excess = (jnp.asarray(a, jnp.float32) for a in class_means(seen, known.labels))

    def outputs(weights: PyTree, x: Array) -> tuple[Array, Array]:
        params, means, excess = weights
        u = unit(params, x)
        return -SHARPNESS * (jnp.square(u[:, None] - means).sum(-1) - excess), u

    def held_out(parts: int | None) -> HeldOut:
        held = left_out_of_means(seen, known.labels)
        return held._replace(logits=-SHARPNESS * held.logits)

    shape = known.images.shape[1:]
    weights = (params, means, excess)
    return Classifier(known.names, shape, "frozen", weights, outputs, "features", False, features.BATCH, held_out)


def image_shape_of(settings: Settings) -> tuple[int, int, int]:
    """(height, width, channels) of the images that a run reads; ValueError where it reads something else."""
    if settings.network.backbone is not None:
        side = settings.task.image_size or features.side_of(settings.network.backbone)
        return side, side, 3
    shape = settings.task.image_shape
    if shape is None or len(shape) != 3:
        raise ValueError(f"predict reads images, and this run was trained on inputs of shape {shape}")
    return shape[0], shape[1], shape[2]


def run(classifier: Classifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(logits [n, ways], what is compared [n, d]) of images [n, height, width, channels] uint8.

    Raises:
        ValueError: outputs that are not finite.
    """
    if classifier.normalised_by and len(images) * images.shape[1] * images.shape[2] > TOGETHER:
        classifier = classifier.normalised_by(images)
    look = jax.jit(classifier.outputs)
    batch = len(images) if classifier.together else classifier.batch
    logits, compared = features.in_batches(lambda x: look(classifier.weights, x), images, batch)
    if not np.isfinite(np.asarray(jax.nn.softmax(logits.astype(np.float32), axis=-1))).all():
        raise ValueError(
            "the network's outputs are not finite, so that any class would be a guess: "
            "use another run or checkpoint, or fewer inner steps"
        )
    return logits, compared


def _compared(settings: Settings, learner: Learner, ways: int) -> tuple[Callable[..., Array], str]:
    """(theta, phi, x) -> [n, d], what the learner compares: its network's features; its outputs where it has none."""
    method = find_method(settings.learner)
    if method.network == "maps":
        return learner.predict, "outputs"
    net = network(settings, ways if method.network == "head" else None)
    by_direction = (
        settings.learner in ("matching", "baseline-pp")
        or settings.method.get("distance") == "cosine"
        or settings.method.get("head") in ("centroid", "logistic")
    )

    def compared(theta: PyTree, phi: PyTree, x: Array) -> Array:
        z = net.apply(_body(theta, phi), x, getattr(phi, "stats", None))[0]
        return z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-12) if by_direction else z

    return compared, "features"


def _body(theta: PyTree, phi: PyTree) -> PyTree:
    """The network's parameters without a head, as a task uses them."""
    params = getattr(phi, "params", None)  # of a learner that adapts the network
    if params is None:
        params = theta["net"] if isinstance(theta, Mapping) and "net" in theta else theta
    return {k: v for k, v in params.items() if k != "head"} if isinstance(params, Mapping) else params

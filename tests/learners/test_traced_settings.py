"""Every number that a method takes may be a traced array: many values at once, in one program."""

import inspect
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import Episode, learners, models

SOURCE = ("finetune", "baseline_pp", "simpleshot", "rfs", "tsa", "tim", "bdcspn")
FEATURES = ("protonet", "proto_maml", "matching", "r2d2", "meta_baseline", "feat", "metaoptnet", "pmf", *SOURCE)
GIVEN = {"temperature": 2.0, "scale": 3.0, "label_smoothing": 0.2, "first_order_until": 0.3, "progress": 0.05}


def numbers():
    """(method, argument, value) of each argument that is a float by its default or its type."""
    for name in learners.__all__:
        factory = getattr(learners, name)
        if not inspect.isfunction(factory):
            continue
        for argument, parameter in inspect.signature(factory).parameters.items():
            if isinstance(parameter.default, float) or float in get_args(parameter.annotation):
                value = GIVEN.get(argument, parameter.default)
                yield name, argument, 0.3 if value is None else value


@pytest.mark.parametrize(("name", "argument", "value"), list(numbers()))
def test_it_may_be_traced(key, name, argument, value):
    y = jnp.repeat(jnp.arange(3, dtype=jnp.int32), 2)
    pictures = name in ("mtl", "relation")
    x = jax.random.normal(key, (2, 6, *((16, 16, 1) if pictures else (5,))))
    task = Episode(x[0], y, x[1], y, jnp.arange(3, dtype=jnp.int32))
    outputs = None if name in FEATURES else 3
    net = models.conv4(outputs, 4, downsample="stride") if pictures else models.mlp(outputs, (6,))
    own = inspect.signature(getattr(learners, name)).parameters
    steps = {"inner_steps": 2} if "inner_steps" in own else {"test_steps": 2} if "test_steps" in own else {}
    extra = {"classes": 7} if name in SOURCE else {"pseudo_queries": "none"} if name == "pmf" else {}

    def result(value):
        learner = getattr(learners, name)(net, **steps, **extra, **{argument: value})
        theta = learner.init(key, task.support_x)
        phi = learner.adapt(theta, task.support_x, task.support_y)
        return learner.loss(theta, task)[0], learner.predict(theta, phi, task.query_x)

    many = jax.jit(jax.vmap(result))(jnp.array([value, 1.5 * value], jnp.float32))
    for i, each in enumerate((value, 1.5 * value)):
        for got, want in zip(many, result(each), strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-5)

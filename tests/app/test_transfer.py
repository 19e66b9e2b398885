"""A network moves from one method's theta to another's, whole or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import learners, models
from mtl_jax.app.transfer import move_network

X = jnp.zeros((1, 16, 16, 1))


def theta(learner, seed):
    return learner.init(jax.random.key(seed), X)


def body(params):
    return {k: v for k, v in params.items() if k != "head"}


@pytest.fixture(scope="module")
def source():
    return theta(learners.protonet(models.conv4(None, 4)), 0)


def test_weights_move_and_the_head_stays(source):
    target = theta(learners.maml(models.conv4(3, 4)), 1)
    got = move_network(target, source)
    jax.tree.map(np.testing.assert_array_equal, body(got), source)
    jax.tree.map(np.testing.assert_array_equal, got["head"], target["head"])


def test_wrapped_networks_are_found_on_either_side(source):
    wrapped = theta(learners.meta_sgd(models.conv4(3, 4)), 1)
    got = move_network(wrapped, source)
    jax.tree.map(np.testing.assert_array_equal, body(got["net"]), source)
    jax.tree.map(np.testing.assert_array_equal, got["rates"], wrapped["rates"])
    back = move_network(theta(learners.protonet(models.conv4(None, 4)), 2), got)
    jax.tree.map(np.testing.assert_array_equal, back, source)


def test_another_network_is_refused_by_the_layer_that_differs(source):
    with pytest.raises(ValueError, match=r"another network: conv0/kernel is \(3, 3, 1, 4\) there and \(3, 3, 1, 8\)"):
        move_network(theta(learners.protonet(models.conv4(None, 8)), 1), source)

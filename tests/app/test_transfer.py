"""A network moves from one method's theta to another's, whole or not at all."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import learners, models
from mtl_jax.app.settings import NetworkSettings
from mtl_jax.app.transfer import check_start, move_network

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


def test_a_head_moves_where_asked_wherever_it_is_kept():
    maml = theta(learners.maml(models.conv4(3, 4)), 1)
    same = jax.tree.map(lambda leaf: leaf + 1.0, maml)
    jax.tree.map(np.testing.assert_array_equal, move_network(maml, same, head=True), same)
    inside = move_network(theta(learners.meta_sgd(models.conv4(3, 4)), 2), same, head=True)
    jax.tree.map(np.testing.assert_array_equal, inside["net"], same)
    beside = move_network(theta(learners.mtl(models.conv4(3, 4)), 3), inside, head=True)
    jax.tree.map(np.testing.assert_array_equal, {**beside["frozen"], "head": beside["head"]}, same)
    back = move_network(theta(learners.lstm(models.conv4(3, 4)), 4), beside, head=True)
    jax.tree.map(np.testing.assert_array_equal, back["net"], same)


@pytest.mark.parametrize(
    ("target", "ways", "said"),
    [
        (learners.protonet(models.conv4(None, 4)), 3, "this method has no head"),
        (learners.maml(models.conv4(3, 4)), None, "the run to start from has no head"),
        (learners.maml(models.conv4(3, 4)), 5, "is of 5 ways and 3 are needed"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(target, ways, said):
    given = theta(learners.maml(models.conv4(ways, 4)) if ways else learners.protonet(models.conv4(None, 4)), 0)
    with pytest.raises(ValueError, match=said):
        move_network(theta(target, 1), given, head=True)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"downsample": "stride"}, "downsample stride there and pool here; give both the same --downsample"),
        ({"backbone": "lite0"}, "backbone lite0 there and none here; give both the same --backbone"),
    ],
)
def test_weights_that_fit_another_network_by_their_shapes_alone_are_refused(there, said):
    own = NetworkSettings(downsample="pool")
    check_start(own, replace(own, norm="support"))
    check_start(own, NetworkSettings(model="resnet12"))  # by its layers: it is told so in other words
    with pytest.raises(ValueError, match=said):
        check_start(own, replace(own, **there))

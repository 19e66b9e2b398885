import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from mtl_jax.app.cost import count_bytes, count_flops


def product(a, _):
    return a @ a, None


def jaxpr_of(f, *args):
    return jax.make_jaxpr(f)(*args).jaxpr


def test_every_turn_of_a_loop_counts():
    a = jnp.ones((4, 4), jnp.float32)
    once, seven = jaxpr_of(lambda a: product(a, 0)[0], a), jaxpr_of(lambda a: jax.lax.scan(product, a, None, 7)[0], a)
    assert count_flops(once) == 2 * 4**3
    assert count_bytes(once) == 3 * 4 * 16
    assert count_flops(seven) == 7 * 2 * 4**3
    assert count_bytes(seven) == 7 * 3 * 4 * 16


def test_a_convolution_counts_its_taps():
    image, kernel = jnp.ones((1, 3, 8, 8)), jnp.ones((5, 3, 3, 3))
    assert count_flops(jaxpr_of(lambda x, k: jax.lax.conv(x, k, (1, 1), "SAME"), image, kernel)) == 2 * 5 * 64 * 27


def test_every_device_counts():
    mesh = AbstractMesh((3,), ("tasks",))
    f = jax.shard_map(lambda a: a @ a.T, mesh=mesh, in_specs=P("tasks"), out_specs=P("tasks"))
    assert count_flops(jaxpr_of(f, jnp.ones((6, 5)))) == 3 * 2 * 2 * 2 * 5

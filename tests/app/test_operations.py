import jax
import jax.numpy as jnp
import pytest

from mtl_jax.app.operations import count_operations


def counts(f, *args):
    return count_operations(jax.jit(f).lower(*args).compile().as_text())


def test_every_turn_of_a_loop_counts():
    a, b = jnp.ones((64, 64), jnp.float32), jnp.ones((64, 64), jnp.float32)
    once = counts(lambda a, b: a @ b, a, b)
    five = counts(lambda a, b: jax.lax.scan(lambda c, _: (c @ b, None), a, None, 5)[0], a, b)
    assert once == (1, 3 * a.nbytes)
    assert five[0] >= 5
    assert five[1] >= 5 * once[1]


def test_a_fusion_counts_as_one():
    a = jnp.ones((8, 8), jnp.float32)
    assert counts(lambda a: jnp.sin(a) * 2 + 1, a) == (1, 2 * 4 * 64)


def test_of_what_is_sliced_the_slice_alone_is_read():
    table = jnp.ones((1000, 8), jnp.float32)
    operations, traffic = counts(
        lambda x, i: jax.lax.dynamic_index_in_dim(x, i, keepdims=False) + 1, table, jnp.int32(3)
    )
    assert operations >= 1
    assert traffic < table.nbytes / 10


@pytest.mark.parametrize("kind", ["conditional", "call"])
def test_what_is_called_is_looked_into(kind):
    body = "%inner (p: f32[4]) -> f32[4] {\n  %p = f32[4]{0} parameter(0)\n  ROOT %n = f32[4]{0} negate(%p)\n}\n\n"
    named = "branch_computations={%inner, %inner}" if kind == "conditional" else "to_apply=%inner"
    given = "  %x = f32[4]{0} parameter(0)\n"
    whole = f"ENTRY %main (x: f32[4]) -> f32[4] {{\n{given}  ROOT %c = f32[4]{{0}} {kind}(%x), {named}\n}}"
    assert count_operations(body + whole) == (1, 32)

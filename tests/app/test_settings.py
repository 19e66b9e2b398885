"""Settings: one place for each, checked at once, and the same through a file and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_jax.app.methods import METHODS, change, defaults_of, given_of, resolve_settings
from mtl_jax.app.settings import AUGMENTATIONS, GROUPS, all_fields
from mtl_jax.app.signatures import Option
from mtl_jax.data import augment


def test_no_setting_stands_in_two_groups():
    names = [name for group in GROUPS for name in group.__dataclass_fields__]
    assert len(names) == len(set(names))
    assert all(each.metadata["about"] for each in all_fields().values())


@pytest.mark.parametrize("name", METHODS)
def test_settings_go_through_a_flat_file_and_come_back(name):
    settings = resolve_settings(
        {"learner": name, "ways": 7, "sizes": [[2, 1, 3]]} if name == "maml" else {"learner": name}
    )
    text = json.dumps(given_of(settings))
    assert resolve_settings(json.loads(text)) == settings
    assert set(json.loads(text)) >= set(defaults_of(name))
    assert all(not isinstance(v, dict) or k == "lr_multipliers" for k, v in json.loads(text).items())


def test_the_augmentations_to_choose_from_are_those_that_there_are():
    assert AUGMENTATIONS == augment.AUGMENTATIONS  # the settings, which help answers from, import no jax


def test_a_method_prefers_and_a_person_decides():
    assert resolve_settings({"learner": "reptile"}).outer.meta_lr == 1.0
    assert resolve_settings({"learner": "reptile", "meta_lr": 0.5}).outer.meta_lr == 0.5
    assert resolve_settings({"learner": "protonet"}).outer.meta_lr == 2e-3
    assert resolve_settings({"learner": "maml"}).outer.meta_lr == 1e-3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"inner_steps": 5}, "protonet has no setting 'inner_steps'"),
        ({"temperatur": 5}, "did you mean 'temperature'"),
        ({"ways": 0}, "ways must be at least 1, not 0"),
        ({"ways": 2.5}, "ways must be a whole number"),
        ({"ways": True}, "ways must be a number"),
        ({"meta_lr": 0}, "meta-lr must be above 0"),
        ({"meta_lr": float("inf")}, "meta-lr must be finite"),
        ({"norm": "batch"}, "unknown norm 'batch': choose one of transductive, support, none"),
        ({"distance": "manhattan"}, "unknown distance"),
        ({"hard_tasks": 1}, "hard-tasks is a switch"),
        ({"sizes": [(1, 2)]}, "WAYS,SHOTS,QUERIES"),
        ({"tasks": 10**9}, "tasks must be at most 1000000"),
        ({"model": "linear", "width": 3}, "no hidden units"),
        ({"steps": None}, "steps cannot be left empty"),
        ({"init_head": True}, "init head is that of --init's run: give that too"),
        ({"backbone": 0.0}, "backbone must be a word, not 0.0"),
        ({"model_file": 0.0}, "model-file must be a word, not 0.0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(wrong, said):
    with pytest.raises(ValueError, match=said) as caught:
        resolve_settings({"learner": "protonet", **wrong})
    assert len(str(caught.value).splitlines()) == 1


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3)
)


@given(name=st.sampled_from(sorted(METHODS)), data=st.data())
def test_any_values_make_settings_or_one_line(name, data):
    keys = data.draw(st.lists(st.sampled_from(sorted(defaults_of(name))), max_size=4, unique=True))
    odd = {key: data.draw(VALUES) for key in keys}
    said = "one line"
    try:
        settings = resolve_settings({"learner": name, **odd})
    except ValueError as error:
        said = str(error)
    else:
        said = str(change(settings, seed=1).run.seed)
    assert len(said.splitlines()) == 1


def test_an_option_says_whether_it_may_be_left_empty():
    assert Option("x", int, None, "about", (), True).optional
    assert resolve_settings({"learner": "protonet", "temperature": None}).method["temperature"] is None
    with pytest.raises(ValueError, match="inner-lr of maml cannot be left empty"):
        resolve_settings({"learner": "maml", "inner_lr": None})

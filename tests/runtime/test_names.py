import pytest

from mtl_keras.runtime.names import check_task_name, check_task_names, unknown_name


@pytest.mark.parametrize("name", ["digit", "arrival_delay", "A1"])
def test_good_names_pass(name):
    assert check_task_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a/b",
        "1st",
        "_x",
        "größe",
        "a-b",
        "a.b",
        "a:0",
        "loss",
        "val_x",
        "serving_default",
    ],
)
def test_names_that_a_format_would_change_are_refused(name):
    with pytest.raises(ValueError, match="[Tt]ask name"):
        check_task_name(name)


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match="must be a string"):
        check_task_name(3)


def test_duplicates_are_refused_whatever_their_case():
    with pytest.raises(ValueError, match="share the name 'Box'"):
        check_task_names(["box", "Box"])


def test_a_task_named_like_anothers_loss_is_refused():
    with pytest.raises(ValueError, match="collides with the logged loss of task 'box'"):
        check_task_names(["box", "box_loss"])


def test_no_task_is_refused():
    with pytest.raises(ValueError, match="At least one task"):
        check_task_names([])


def test_close_names_come_first():
    assert "Did you mean 'flights'" in unknown_name("zoo entry", "flight", ["flights", "gloss"])
    assert "Known: flights, gloss" in unknown_name("zoo entry", "zzz", ["gloss", "flights"])

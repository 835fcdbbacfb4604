import numpy as np

from engine.maps.palette import NOISE, colours_of, hexadecimal, ink_of


def test_the_colour_depends_on_the_label_only() -> None:
    many = colours_of(np.arange(-1, 300))
    few = colours_of(np.array([250, 7, -1, 7]))
    np.testing.assert_array_equal(few, many[[251, 8, 0, 8]])
    assert tuple(many[0]) == NOISE


def test_200_clusters_have_colours_of_their_own() -> None:
    colours = colours_of(np.arange(200))
    assert ((colours >= 0) & (colours <= 1)).all()
    assert len(set(hexadecimal(colours))) == 200


def test_the_first_clusters_are_far_apart() -> None:
    colours = colours_of(np.arange(-1, 12))
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=2) + np.eye(13)
    assert apart.min() > 0.12


def test_ink_is_dark() -> None:
    for label in range(-1, 50):
        red, green, blue = bytes.fromhex(ink_of(label)[1:])
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue < 110


def test_no_labels() -> None:
    assert colours_of(np.array([], np.int64)).shape == (0, 3)
    assert hexadecimal(np.array([[0, 0.5, 1.0]])) == ["#0080ff"]

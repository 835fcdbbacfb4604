from itertools import combinations

from engine.maps.labels import Box, spread

FRAME = Box(0, 0, 1000, 800)


def test_a_box_with_room_stays() -> None:
    boxes = [Box(10, 10, 60, 30), Box(200, 10, 260, 30)]
    assert spread(boxes, FRAME) == boxes


def test_boxes_on_each_other_are_moved_apart() -> None:
    boxes = [Box(400, 400, 520, 430)] * 12
    moved = spread(boxes, FRAME)
    assert moved[0] == boxes[0]
    assert sum(one.overlap(other) for one, other in combinations(moved, 2)) == 0
    assert spread(boxes, FRAME) == moved


def test_boxes_stay_in_the_frame() -> None:
    for box in spread([Box(-30, 790, 60, 820)] * 4, FRAME):
        assert box.left >= 0
        assert box.top <= 800


def test_too_many_boxes_overlap_rather_than_vanish() -> None:
    small = Box(0, 0, 50, 50)
    assert len(spread([Box(0, 0, 50, 50)] * 5, small)) == 5

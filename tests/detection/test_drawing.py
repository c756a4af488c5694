"""What is drawn: boxes, readable labels, masks."""

from __future__ import annotations

import numpy as np
import pytest

from graphsplit.detection.drawing import captions, draw

sv = pytest.importorskip("supervision")


def found(n=1, class_id=1, mask=None, xyxy=(20, 20, 60, 60)):
    return sv.Detections(
        xyxy=np.asarray([xyxy] * n, np.float32).reshape(-1, 4),
        confidence=np.full(n, 0.5, np.float32),
        class_id=np.full(n, class_id),
        mask=mask,
        data={"class_name": np.asarray(["cat"] * n, dtype=str)},
    )


def test_the_picture_itself_is_not_touched_and_comes_back_as_bgr():
    image = np.zeros((80, 100, 3), np.uint8)
    image[..., 0] = 200
    drawn = draw(image, found(0))
    assert drawn[0, 0].tolist() == [0, 0, 200]
    assert image[0, 0].tolist() == [200, 0, 0]
    drawn = draw(image, found())
    assert (image == image[0, 0]).all()
    assert (drawn != drawn[-1, -1]).any()


def test_captions_have_names_and_scores_or_numbers():
    assert captions(found(2)) == ["cat 0.50", "cat 0.50"]
    assert captions(found(), scores=False) == ["cat"]
    nameless = found()
    del nameless.data["class_name"]
    assert captions(nameless) == ["1 0.50"]


def test_lines_grow_with_the_picture():
    def width(size):
        drawn = draw(np.zeros((size, size, 3), np.uint8), found(xyxy=(0.2 * size, 0.4 * size, 0.8 * size, 0.9 * size)))
        return int(drawn[int(0.7 * size), : size // 2].any(axis=1).sum())

    assert width(200) == 1
    assert 7 <= width(2000) <= 10


def test_the_surest_label_lies_over_the_others():
    image = np.zeros((200, 200, 3), np.uint8)
    two = found(2, xyxy=(60, 60, 140, 140))
    two.confidence = np.array([0.9, 0.1], np.float32)
    two.class_id = np.array([1, 6])
    box = draw(image, two)[100, 60].tolist()
    two.confidence = np.array([0.1, 0.9], np.float32)
    assert draw(image, two)[100, 60].tolist() != box


def test_labels_stay_inside_of_the_picture_and_contrast_with_their_ground():
    image = np.zeros((120, 160, 3), np.uint8)
    for class_id in range(22):
        drawn = draw(image, found(class_id=class_id, xyxy=(0, 0, 50, 50))).astype(int)
        label = drawn[:16, :40].reshape(-1, 3)
        grey = label @ [0.114, 0.587, 0.299]
        assert grey.max() - grey.min() > 90, f"the label of class {class_id} cannot be read"


def test_masks_shade_and_regions_have_no_boxes():
    image = np.full((80, 100, 3), 100, np.uint8)
    mask = np.zeros((1, 80, 100), bool)
    mask[0, 30:50, 30:50] = True
    shaded = draw(image, found(mask=mask))
    assert (shaded[45, 45] != 100).any()
    regions = draw(image, found(mask=mask), boxes=False)
    assert (regions[60, 20:60] == 100).all(), "no line at the lower end of the box"
    assert (shaded[60, 20:60] != 100).any()

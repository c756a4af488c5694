"""What is accepted as an image, and how it becomes the input of a model."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from graphsplit.detection.images import as_image, picture_input, read_image
from graphsplit.errors import FeedError, FormatError
from graphsplit.parts.parts import Port

RED = np.zeros((4, 6, 3), np.uint8)
RED[..., 0] = 255


def test_rgb_stays_as_it_is():
    assert as_image(RED).tolist() == RED.tolist()
    assert as_image(RED[::-1, ::2]).flags.c_contiguous


def test_grey_becomes_rgb_and_alpha_is_dropped():
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    for image in (grey, grey[:, :, None]):
        assert as_image(image).shape == (4, 6, 3)
        assert (as_image(image) == grey[:, :, None]).all()
    assert as_image(np.dstack([RED, grey])).tolist() == RED.tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1"])
def test_pil_images_are_taken_in_any_mode_of_eight_bits(mode):
    image = as_image(Image.fromarray(RED).convert(mode))
    assert (image.shape, image.dtype) == ((4, 6, 3), np.uint8)


def test_a_path_is_read_as_rgb(tmp_path):
    Image.fromarray(RED).save(tmp_path / "röd.png")
    assert as_image(tmp_path / "röd.png").tolist() == RED.tolist()
    assert as_image(str(tmp_path / "röd.png")).tolist() == RED.tolist()


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    Image.fromarray(RED).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (6, 4, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (RED.astype(np.float32) / 255, r"the image is float32; pass uint8 from 0 to 255 \(a float image from 0 to 1 is"),
        (RED.astype(np.int64), "the image is int64"),
        (RED[None], r"has shape \[1, 4, 6, 3\]; pass one RGB image"),
        (RED[:, :, :2], r"has shape \[4, 6, 2\]"),
        (RED[:0], r"has shape \[0, 6, 3\]: it is empty"),
        (Image.fromarray(RED).convert("F"), "the image has mode 'F'; scale its values"),
        (Image.new("I;16", (4, 4)), "the image has mode 'I;16'"),
        ([[1, 2], [3, 4]], "an array, a PIL image or a path, not list"),
        (None, "not NoneType"),
        (np.ma.masked_greater(RED, 100), "the image has masked values"),
        (RED.astype(object), "the image is an array of objects"),
        (np.zeros((4, 6), [("r", "u1"), ("g", "u1")]), r"the image is an array of records \(r, g\)"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(image, message):
    with pytest.raises(FeedError, match=message):
        as_image(image)


def test_files_that_are_no_pictures_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"nowhere\.png: no such file"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(FormatError, match="not a file"):
        read_image(tmp_path)
    for content in (b"", b"no picture"):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(FormatError, match=r"x\.png: not an image that OpenCV can read"):
            read_image(tmp_path / "x.png")


RAMP = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)  # every pixel value


@pytest.mark.parametrize(
    ("dtype", "name", "pixels", "quantised", "expected"),
    [
        ("int8", "image", None, None, np.arange(256) - 128),
        ("int8", "image", None, (1 / 64, 0), np.arange(256) - 128),
        ("uint8", "normalized_image", None, (1 / 128, 128), np.rint(np.arange(256) * 256 / 255)),
        ("int8", "normalized_image", None, (1 / 64, 3), np.rint(np.linspace(-64, 64, 256) + 3)),
        ("int8", "image", (0, 1), (1 / 255, -128), np.arange(256) - 128),
        ("uint8", "image", (0, 2), (1 / 255, 0), np.arange(256) * 2),
    ],
)
def test_a_quantised_input_gets_pixels_at_its_scale(dtype, name, pixels, quantised, expected):
    known = {} if quantised is None else {name: quantised}
    fed = picture_input([port(dtype, (1, None, None, 3), name)], pixels=pixels, quantised=known).feed(RAMP)
    limits = np.iinfo(dtype)
    assert fed.dtype == np.dtype(dtype)
    assert fed[0, 0, :, 1].tolist() == np.clip(expected, limits.min, limits.max).astype(int).tolist()


def port(dtype="uint8", shape=(None, None, None, 3), tensor="image_tensor:0"):
    return Port(tensor, tensor, dtype, shape)


def test_uint8_of_any_size_is_fed_as_it_is():
    fed = picture_input([port()], pixels=None).feed(RED)
    assert (fed.shape, fed.dtype) == ((1, 4, 6, 3), np.uint8)
    assert np.shares_memory(fed, RED)
    assert picture_input([port(shape=None)], pixels=None).feed(RED).shape == (1, 4, 6, 3)


def test_a_fixed_size_is_met_and_floats_run_as_far_as_uint8_unless_the_name_says_normalized():
    fed = picture_input([port("float32", (1, 8, 8, 3))], pixels=None).feed(RED)
    assert (fed.shape, fed.dtype, fed.max(), fed.min()) == ((1, 8, 8, 3), np.float32, 255, 0)
    fed = picture_input([port("float32", (1, 8, 8, 3), "a/normalized_input_image_tensor")], pixels=None).feed(RED)
    assert (fed.max(), fed.min()) == (1, -1)
    fed = picture_input([port("float16", (1, 8, None, 3))], pixels=(0, 1)).feed(RED)
    assert (fed.shape, fed.dtype, fed.max(), fed.min()) == ((1, 8, 6, 3), np.float16, 1, 0)


def test_an_input_with_a_default_is_fed_only_if_it_is_the_image():
    keep = Port("keep:0", "keep:0", "float32", (), optional=True)
    image = Port("image:0", "image:0", "uint8", (None, None, None, 3), optional=True)
    assert picture_input([keep, port()], pixels=None).tensor == "image_tensor:0"
    assert picture_input([keep, image], pixels=None).tensor == "image:0"
    assert picture_input([image, port()], pixels=None).tensor == "image_tensor:0"
    with pytest.raises(FeedError, match="a detector takes one image; this model takes keep:0"):
        picture_input([keep], pixels=None)


def test_a_longest_side_is_kept_to():
    entry = picture_input([port()], pixels=None, longest=513)
    assert entry.fed((1026, 2052)) == (256, 513)
    assert entry.fed((100, 513)) == (100, 513)


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ([], "this model takes nothing"),
        ([port(), port()], r"this model takes image_tensor:0 uint8 \[\?, \?, \?, 3\], image_tensor:0"),
        ([port("string", (None,))], r"an image, uint8, int8 or float; this model takes image_tensor:0 string"),
        ([port("float32", (None, 784))], r"an image \[1, height, width, 3\]"),
        ([port(shape=(8, 300, 300, 3))], r"an image \[1, height, width, 3\]"),
        ([port(shape=(1, 300, 300, 1))], r"an image \[1, height, width, 3\]"),
    ],
)
def test_a_model_that_is_not_fed_one_picture_is_refused(ports, message):
    with pytest.raises(FeedError, match=message):
        picture_input(ports, pixels=None)

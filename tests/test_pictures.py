"""Pictures say what they should: read back from the PNG."""

import base64
import io

import numpy as np
from PIL import Image

from petbone.anatomy import BY_NAME, colour
from petbone.report import pictures
from petbone.report.projections import Frame, View


def read(uri: str) -> np.ndarray:
    head, code = uri.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGBA")).astype(int)


def test_grey_runs_from_black_to_white_and_back() -> None:
    values = np.array([[-5.0, 0.0, 5.0, 10.0, 99.0, np.nan]], np.float32)
    plain, inverted = read(pictures.grey(values, 0, 10)), read(pictures.grey(values, 0, 10, inverted=True))
    assert plain[0, :, 0].tolist()[:2] == [0, 0]
    assert plain[0, :, 0].tolist()[3:5] == [255, 255]
    assert inverted[0, :, 0].tolist()[:2] == [255, 255]
    assert inverted[0, :, 0].tolist()[3:5] == [0, 0]
    assert abs(plain[0, 2, 0] - 127) <= 2
    for image in (plain, inverted):
        assert image[0, :, 3].tolist() == [255] * 5 + [0]
        assert (image[..., :1] == image[..., :3]).all()


def test_bones_have_their_hue_and_the_outside_is_transparent() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[4:16, 3:12], labels[4:16, 16:26] = 7, 42
    depth_mm = np.where(labels == 7, 10, np.where(labels == 42, 90, 0)).astype(np.float32)
    depth_mm[:, 28:] = np.nan
    image = read(pictures.bones(labels, depth_mm))
    assert (image[:, 28:, 3] == 0).all()
    assert (image[:, :28, 3] == 255).all()
    assert (image[0, 0, :3] == 0).all()
    for label, column in ((7, 7), (42, 20)):
        got, want = image[10, column, :3], np.array(colour(label))
        assert np.abs(got / got.max() - want / want.max()).max() < 0.06
    near = image[10, 20, :3].max() / max(colour(42))
    assert near > 1.3 * image[10, 7, :3].max() / max(colour(7))


def test_nothing_to_see_is_black() -> None:
    image = read(pictures.bones(np.zeros((5, 6), np.uint8), np.zeros((5, 6), np.float32)))
    assert (image[..., :3] == 0).all()


def test_hotspots_are_filled_and_outlined_in_red() -> None:
    numbers = np.zeros((9, 9), int)
    numbers[2:7, 2:5], numbers[2:7, 5:8] = 1, 2
    image = read(pictures.hotspots(numbers))
    assert (image[numbers == 0, 3] == 0).all()
    assert (image[numbers > 0][:, :3] == pictures.HOTSPOT_RGB).all()
    assert image[4, 3, 3] < 255  # inside
    assert (image[4, [2, 4, 5, 7], 3] == 255).all()  # the edge, also between two that touch


def test_numbers_do_not_cover_each_other() -> None:
    rng = np.random.default_rng(0)
    points = [(float(u), float(v)) for u, v in rng.uniform((10, 10), (190, 290), (60, 2))]
    marks = pictures.number_marks(range(1, 61), points, (200, 300), 8)
    assert len(marks) > 40
    for n, a in enumerate(marks):
        assert 0 < a.u_mm < 200
        assert 0 < a.v_mm < 300
        assert (a.to_u_mm, a.to_v_mm) == points[int(a.text) - 1]
        for b in marks[n + 1 :]:
            wide = 0.33 * 8 * (len(a.text) + len(b.text))
            assert abs(a.u_mm - b.u_mm) >= wide - 1e-9 or abs(a.v_mm - b.v_mm) >= 8 - 1e-9


def test_a_number_without_room_is_left_out() -> None:
    assert len(pictures.number_marks([1, 2], [(5, 5), (5, 5)], (10, 10), 9)) < 2


def test_vertebrae_are_named_where_they_show_and_ribs_at_their_outer_ends() -> None:
    frame = Frame((-50.0, -50.0, 0.0), (50.0, 50.0, 100.0), 1.0)
    t5, t6 = BY_NAME["T5"].id, BY_NAME["T6"].id
    right, left = BY_NAME["rib_right_4"].id, BY_NAME["rib_left_4"].id
    labels = np.zeros(frame.shape(View.CORONAL), np.uint8)
    labels[40:50, 45:55] = t5
    labels[60:70, 45:55] = BY_NAME["sternum"].id  # hides T6
    labels[42, 10:40], labels[42, 60:90] = right, left
    middle = {t5: (0, 0, 55), t6: (0, 0, 35), right: (20, 0, 58), left: (-20, 0, 58), 200: (0, 0, 0)}
    centres = {label: np.array(mm, float) for label, mm in middle.items()}
    marks = pictures.bone_marks(labels, centres, frame, View.CORONAL, {})
    assert [(m.text, m.u_mm) for m in marks] == [("T5", 50.0), ("4", 89.5), ("4", 10.5)]
    may_be = {t5: (t5, 4, 6), right: (right, right + 1), left: (left,)}
    unsure = pictures.bone_marks(labels, centres, frame, View.CORONAL, may_be)
    assert sorted(m.text for m in unsure) == ["4-5?", "?", "T4-6?"]

"""Heights and widths: what rows, cells and aspect ratios become, and what no model makes."""

import pytest

from batchgen.errors import Refused
from tests.expanding import only


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ({"height": 512, "width": 768}, (512, 768, None, None)),
        ({"height": 1080, "width": 1920}, (1088, 1920, 1080, None)),
        ({"height": 1000, "width": 1000}, (1008, 1008, 1000, 1000)),
        ({"aspect_ratio": "16:9"}, (768, 1360, None, None)),
        ({"aspect_ratio": "9/16"}, (1360, 768, None, None)),
        ({"aspect_ratio": 1.0}, (1024, 1024, None, None)),
        ({"aspect_ratio": "1.5", "height": 512}, (512, 768, None, None)),
        ({"aspect_ratio": "2:1", "width": 1000}, (496, 1008, None, 1000)),
        ({"aspect_ratio": 4}, (512, 2048, None, None)),
    ],
)
def test_sizes(expand, sides, expected):
    row = only(expand([{"prompt": "x"} | sides]))
    assert tuple(row[name] for name in ("height", "width", "requested_height", "requested_width")) == expected


def test_job_sizes_snap_too(expand):
    row = only(expand([{"prompt": "x"}], sampling={"height": 1000}))
    assert (row["height"], row["requested_height"], row["requested_width"]) == (1008, 1000, None)


def test_a_row_that_is_impossible_in_one_cell_is_bad(expand):
    row = only(expand([{"prompt": "x", "width": 256}], sweep={"height": [256, 1024, 2048]}))
    assert row["skip_code"] == "BAD_SIZE"
    assert "2048 × 256 (in cell height=2048)" in row["skip_message"]


@pytest.mark.parametrize(("column", "axis"), [("width", "height"), ("height", "width")])
def test_a_side_of_the_row_and_one_of_the_cell_are_both(expand, column, axis):
    table = expand([{"prompt": "x", column: 256}], sweep={axis: [256, 1024]})
    assert table[column].to_pylist() == [256, 256]
    assert table[axis].to_pylist() == [256, 1024]


@pytest.mark.parametrize(("height", "width"), [(0, 64), (64, -64)])
def test_no_side_is_snapped_out_of_nothing(expand, height, width):
    """The fake model makes 16 × 64, the nearest possible size."""
    row = only(expand([{"prompt": "x", "height": height, "width": width}], model={"preset": "fake"}))
    assert row["skip_code"] == "BAD_SIZE"


def test_impossible_jobs_are_refused(expand):
    with pytest.raises(
        Refused, match="sampling: height, width: 4096 × 1024 cannot be made: write sides that make 65,536"
    ):
        expand([{"prompt": "x"}], sampling={"height": 4096})
    with pytest.raises(Refused, match="sweep: cell height=128: 128 × 1024 cannot be made"):
        expand([{"prompt": "x"}], sweep={"height": [128, 1024]})

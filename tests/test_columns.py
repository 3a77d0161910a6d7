"""The table of columns against the types that spell them: whoever adds a setting learns here what is missing."""

import inspect
import subprocess
import sys
from dataclasses import fields

from batchgen import columns
from batchgen.engines.protocol import ImageRow
from batchgen.job import LOOP, Sampling
from batchgen.job.sweep import Axes, CellSettings
from batchgen.rows.buckets import Bucket
from batchgen.rows.grid import Grid


def test_a_renderer_is_told_what_decides_an_image_and_its_name():
    assert {field.name for field in fields(ImageRow)} == {"image_id", "sampling", "refine", *columns.DECIDING}


def test_the_job_says_what_a_row_does_not_say():
    of_rows_alone = {"id", "prompt", "prompt_2", "prompt_3", "aspect_ratio"}
    assert set(columns.MANIFEST) - set(Sampling.model_fields) == of_rows_alone


def test_the_axes_of_a_sweep_are_the_swept_columns():
    assert Axes.model_fields.keys() == CellSettings.model_fields.keys() == {*columns.SWEPT, *columns.OF_CELLS}


def test_a_cell_may_say_all_of_the_loop_but_levels_and_whether_there_is_a_second_pass():
    assert {*columns.OF_CELLS} == {*LOOP, "refine"} - {"sigmas"}


def test_each_swept_column_has_a_matrix():
    assert {field.name for field in fields(Grid)} >= set(columns.SWEPT)


def test_a_bucket_is_made_of_the_shared_columns():
    assert set(inspect.signature(Bucket.of).parameters) == {"sampling", "one_call", "swept", *columns.SHARED}


def test_numbers_of_a_manifest_have_a_code():
    assert set(columns.CODES) == {*columns.INTEGERS, *columns.FLOATS}


def test_a_job_needs_no_arrow():
    code = "import sys, batchgen.job; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

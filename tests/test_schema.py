"""Schemas: names stand once, extras stay apart, and the image schema is one that `datasets` shows pictures from."""

import json

import pyarrow as pa
import pytest

from batchgen import schema

EXTRAS = [pa.field("score", pa.float64()), pa.field("tags", pa.string())]
SCHEMAS = [schema.plan_schema, schema.expanded_schema, schema.image_schema, schema.metadata_schema]


@pytest.mark.parametrize("make", SCHEMAS)
def test_no_name_stands_twice(make):
    names = make(EXTRAS).names
    assert len(names) == len(set(names))


@pytest.mark.parametrize("make", SCHEMAS)
def test_every_name_is_ours_or_an_extra(make):
    assert schema.extras_of(make(EXTRAS)) == EXTRAS
    assert set(make().names) <= schema.OWN_COLUMNS


@pytest.mark.parametrize("make", SCHEMAS)
def test_columns_are_flat_and_typed(make):
    for field in make(EXTRAS):
        assert field.name == "image" or not pa.types.is_struct(field.type)
        assert not pa.types.is_null(field.type)


def test_an_expanded_table_becomes_a_plan_by_leaving_columns_out():
    plan, expanded = schema.plan_schema(EXTRAS), schema.expanded_schema(EXTRAS)
    assert [field for field in expanded if field not in schema.EXPANDED_FIELDS] == list(plan)


def test_the_image_column_is_a_hugging_face_image():
    found = schema.image_schema(EXTRAS)
    assert json.loads(found.metadata[b"huggingface"])["info"]["features"]["image"] == {"_type": "Image"}
    assert found.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])

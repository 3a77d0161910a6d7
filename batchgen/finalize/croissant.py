"""Croissant metadata of a run (MLCommons, 1.0): JSON-LD that says which files there are and what their columns hold.

A pure function of plans, totals and the digests of metadata/. Never says where anything lies.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from batchgen import schema
from batchgen.finalize.metadata import Totals
from batchgen.run.directory import Run
from batchgen.run.layout import DATA
from batchgen.run.plans import PlanFile
from batchgen.weights.licence import Licence

PARQUET = "application/x-parquet"
CONFORMS = "http://mlcommons.org/croissant/1.0"
CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform", "equivalentProperty": "cr:equivalentProperty", "samplingRate": "cr:samplingRate",
}  # fmt: skip


def croissant(run: Run, totals: Totals, parts: list[PlanFile], title: str, licence: Licence) -> bytes:
    """The file. parts: of metadata/. title: of the dataset card."""
    planned = run.plan_schema()
    extras = schema.extras_of(planned) if planned is not None else []
    said = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": title,
        "description": f"{totals.images} images of {totals.planned} planned, each with its prompt and settings.",
        "license": licence.link or licence.name or licence.id,
        "distribution": [
            _files("pictures", "Pictures with their rows", f"{DATA}/*.parquet"),
            *(_file(part) for part in parts),
        ],
        "recordSet": [_records("images", "pictures", schema.image_schema(extras))],
    }
    return json.dumps(said, indent=1, ensure_ascii=False).encode()


def _files(name: str, description: str, includes: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet", "@id": name, "name": name, "description": description, "encodingFormat": PARQUET,
        "includes": includes,
    }  # fmt: skip


def _file(part: PlanFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject", "@id": part.path, "name": part.path,
        "description": f"{part.rows} planned rows without pictures, failures included", "contentUrl": part.path,
        "encodingFormat": PARQUET, "sha256": part.sha256,
    }  # fmt: skip


def _records(name: str, files: str, columns: pa.Schema) -> dict[str, Any]:
    fields = [_field(f"{name}/{column.name}", files, column) for column in columns]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "key": {"@id": f"{name}/image_id"}, "field": fields}


def _field(name: str, files: str, column: pa.Field) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": files}, "extract": {"column": column.name}}
    if column.type == schema.IMAGE_TYPE:
        source["transform"] = {"jsonPath": "bytes"}
    said = {"@type": "cr:Field", "@id": name, "name": name, "dataType": _type(column.type), "source": source}
    return said | ({"repeated": True} if pa.types.is_list(column.type) else {})


def _type(kind: pa.DataType) -> str:
    if kind == schema.IMAGE_TYPE:
        return "sc:ImageObject"
    if pa.types.is_list(kind):
        return _type(kind.value_type)
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:Date" if pa.types.is_date(kind) or pa.types.is_timestamp(kind) else "sc:Text"

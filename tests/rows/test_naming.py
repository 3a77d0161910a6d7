"""Seeds and names of image rows: what decides them, and what does not."""

import pyarrow as pa
import pyarrow.csv

from batchgen.columns import MAX_SEED
from batchgen.rows import identity, naming
from tests.expanding import only


def test_own_seeds_count_up(expand):
    table = expand([{"prompt": "x", "seed": 100}], sampling={"num_images_per_prompt": 3})
    assert table["seed"].to_pylist() == [100, 101, 102]
    assert table["seed_derived"].to_pylist() == [False] * 3


def test_listed_seeds_are_for_samples_and_yield_to_the_row(expand):
    table = expand(
        [{"prompt": "x"}, {"prompt": "y", "seed": 5}, {"prompt": "z", "num_images_per_prompt": 1}],
        sampling={"seeds": [11, 22]},
    )
    assert table["seed"].to_pylist() == [11, 22, 5, 6, 11]
    assert not any(table["seed_derived"].to_pylist())


def test_largest_seeds(expand):
    assert expand({"prompt": ["x"], "seed": [MAX_SEED]})["seed"].to_pylist() == [MAX_SEED]


def test_own_ids_are_names(expand):
    assert expand({"prompt": ["x", "y"], "id": [7, 8]})["prompt_id"].to_pylist() == ["7", "8"]
    assert expand([{"prompt": "x", "id": "a/b"}, {"prompt": "x", "id": 9}][:1])["prompt_id"].to_pylist() == ["a/b"]


def test_ids_that_are_all_null_are_derived(expand):
    with_column = expand({"prompt": ["x"], "id": pa.array([None], pa.string())})
    assert with_column["prompt_id"].to_pylist() == expand({"prompt": ["x"]})["prompt_id"].to_pylist()


def test_every_part_of_a_row_names_it(expand):
    prompts = [
        {"prompt": "x"},
        {"prompt": "x", "note": "n"},
        {"prompt": "x", "height": 512, "width": 512},
        {"prompt": "x", "negative_prompt": ""},
        {"prompt": "x", "note": "1"},
    ]
    assert len(set(expand(prompts)["prompt_id"].to_pylist())) == 5


def test_more_images_of_a_row_keep_the_first_ones(expand):
    few = expand([{"prompt": "x", "num_images_per_prompt": 2}])
    many = expand([{"prompt": "x", "num_images_per_prompt": 4}])
    assert many["image_id"].to_pylist()[:2] == few["image_id"].to_pylist()


def test_a_name_does_not_depend_on_file_format_or_wider_types(expand):
    names = [
        expand([{"prompt": "x", "score": 1}])["image_id"].to_pylist(),
        expand([{"prompt": "x", "score": 1}, {"prompt": "y", "score": 2.5}])["image_id"].to_pylist()[:1],
        expand([{"prompt": "x", "score": 1}, {"prompt": "y", "score": "high"}])["image_id"].to_pylist()[:1],
        expand({"prompt": ["x"], "score": pa.array([1], pa.int8())})["image_id"].to_pylist(),
        expand({"score": [1.0], "unused": pa.array([None]), "prompt": ["x"]})["image_id"].to_pylist(),
    ]
    assert len({name for [name] in names}) == 1


def test_the_model_and_what_decides_the_image_name_it(expand):
    row = [{"prompt": "x", "id": "same"}]
    skipping = {"skip_layer_guidance_scale": 2.8}
    tables = [
        expand(row),
        expand(row, digest="other"),
        expand(row, model={"dtype": "float16"}),
        expand(row, sampling={"seed": 1}),
        expand(row, sampling={"negative_prompt": "ugly"}),
        expand(row, sampling=skipping),
        expand(row, sampling=skipping | {"skip_guidance_layers": [7]}),
        expand(row, sampling=skipping | {"skip_layer_guidance_stop": 0.3}),
        expand(row, sampling={"num_inference_steps": 41}),
        expand(row, sampling={"max_sequence_length": 77}),
    ]
    assert len({only(table)["image_id"] for table in tables}) == len(tables)
    unused = [expand(row, sampling={"skip_guidance_layers": [7]}), expand(row, errors={"bad_rows": "skip"})]
    assert {only(table)["image_id"] for table in unused} == {only(tables[0])["image_id"]}


def test_renamed_rows_get_the_seeds_of_their_names(manifest):
    written = manifest(
        [{"prompt": "x"}, {"prompt": "x"}, {"prompt": "y", "seed": 3}, {"prompt": ""}],
        sampling={"num_images_per_prompt": 2},
    )
    table = written.table()
    names = table["prompt_id"].to_pylist()
    renamed = [names[0]] * 2 + [f"{name}-2" for name in names[2:]]
    found = naming.reidentify(table, renamed, written.expansion)
    assert found.schema == table.schema
    assert found["prompt_id"].to_pylist() == renamed
    assert found.slice(0, 2).equals(table.slice(0, 2))
    assert found["seed"].to_pylist()[2:4] == [identity.derive_seed(0, renamed[2], sample) for sample in (0, 1)]
    assert found["seed"].to_pylist()[4:] == [3, 4, None]
    assert len(set(found["image_id"].to_pylist()) | set(table["image_id"].to_pylist())) == 2 + 5 + 3
    assert naming.reidentify(found, names, written.expansion).equals(table)


def test_a_renamed_row_is_the_row_of_that_name(manifest):
    three = {"num_images_per_prompt": 3}
    unnamed = manifest({"prompt": ["x"]}, sampling=three)
    elsewhere = unnamed.path.parent / "elsewhere"
    elsewhere.mkdir()
    named = manifest({"prompt": ["x"], "id": ["mine"]}, elsewhere / unnamed.path.name, sampling=three)
    assert naming.reidentify(unnamed.table(), ["mine"] * 3, unnamed.expansion).equals(named.table())

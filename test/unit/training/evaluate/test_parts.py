import json

from training.evaluate import Images, LabelledImage, Note, Table, save_parts
from training.evaluate.examples import Thumbnail


def saved(path):
    return json.loads(path.read_text(encoding="utf-8"))["evaluations"]


def test_parts_are_plain_data_in_the_order_given(tmp_path):
    path = tmp_path / "evaluations.json"
    image = LabelledImage(Thumbnail("a.jpg", None, 4, 4), ("cat", "told: dog"))
    table = Table("Classes", ("class", "rows"), (("cat", 3), ("dog", None)), is_shaded=True)
    save_parts(path, {"own": (Note("few rows"), table, Images("Mistakes", (image,)))}, epoch=1, step=8)
    found = saved(path)["own"]
    assert (found["epoch"], found["step"]) == (1, 8)
    assert [part["kind"] for part in found["parts"]] == ["note", "table", "images"]
    assert found["parts"][1]["rows"] == [["cat", 3], ["dog", None]]
    assert found["parts"][2]["images"][0]["thumbnail"]["name"] == "a.jpg"
    assert [one.name for one in tmp_path.iterdir()] == ["evaluations.json"]


def test_a_later_evaluation_takes_the_place_of_its_own_parts_only(tmp_path):
    path = tmp_path / "evaluations.json"
    save_parts(path, {"one": (Note("old"),), "two": (Note("kept"),)}, epoch=1, step=4)
    save_parts(path, {"one": (Note("new"),)}, epoch=2, step=8)
    assert [saved(path)[name]["parts"][0]["text"] for name in ("one", "two")] == ["new", "kept"]


def test_a_damaged_file_is_replaced(tmp_path):
    path = tmp_path / "evaluations.json"
    for content in ("", "[]", '{"evaluations": 3}', "{"):
        path.write_text(content)
        save_parts(path, {"one": (Note("new"),)}, epoch=2, step=8)
        assert list(saved(path)) == ["one"]

import csv
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[3] / "tools" / "flickr30k_handle.py"
CAPTIONS = ("A dog runs .", 'The "big" one , here', "Two , three", "It 's four", "Five |pipes| \u732b")


def load_tool(path=TOOL):
    spec = importlib.util.spec_from_file_location(f"tool_{path.parent.name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def make_images(folder, count, images="flickr30k-images"):
    (folder / images).mkdir(parents=True)
    names = [f"{1000 + number}.jpg" for number in range(count)]
    for name in names:
        (folder / images / name).write_bytes(b"not looked into")
    return names


def write_token(folder, names, captions=CAPTIONS):
    lines = [f"{name}#{number}\t{caption}\n" for name in names for number, caption in enumerate(captions)]
    (folder / "results_20130124.token").write_text("".join(lines), encoding="utf-8")


def write_pipes(folder, names, malformed=()):
    lines = ["image_name| comment_number| comment\n"]
    for name in names:
        for number, caption in enumerate(CAPTIONS):
            lines.append(f"{name}| {number}{'  ' if (name, number) in malformed else '|'} {caption}\n")
    (folder / "results.csv").write_text("".join(lines), encoding="utf-8")


def write_karpathy(folder, names, split_of):
    images = [
        {
            "filename": name,
            "split": split_of(position),
            "sentences": [{"raw": caption, "tokens": [], "sentid": 0} for caption in CAPTIONS],
        }
        for position, name in enumerate(names)
    ]
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))


def read_rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] in (["img_key", "caption_key"], ["file", "line", "image", "reason", "text"])
    return rows[1:]


def run(folder, *arguments):
    return tool.main(["--data_path", str(folder), *arguments])


def test_token_file_gives_modelzoo_csv_with_every_caption(tmp_path, capsys):
    names = make_images(tmp_path, 400)
    write_token(tmp_path, names)
    assert run(tmp_path) == 0
    train, test = (read_rows(tmp_path / f"flickr30k_{part}.csv") for part in ("train", "test"))
    expected = [[str(tmp_path / "flickr30k-images" / name), caption] for name in names for caption in CAPTIONS]
    assert train + test == expected
    assert len(test) == 1000
    printed = capsys.readouterr().out
    assert "the last 1000 rows = 200 images are the test set; not the Karpathy split" in printed
    assert "read         2000 rows" in printed
    assert "wrote        1000 rows, 200 images" in printed
    assert not (tmp_path / "flickr30k_refused.csv").exists()


def test_quoting_is_rfc_4180(tmp_path):
    write_token(tmp_path, make_images(tmp_path, 2))
    assert run(tmp_path, "--test_rows", "5", "--relative") == 0
    lines = (tmp_path / "flickr30k_test.csv").read_bytes().split(b"\n")
    assert lines[0] == b"img_key,caption_key"
    assert lines[2] == b'flickr30k-images/1001.jpg,"The ""big"" one , here"'


def test_the_malformed_row_of_the_repack_is_repaired_and_counted(tmp_path, capsys):
    names = make_images(tmp_path, 3, images="flickr30k_images/flickr30k_images")
    write_pipes(tmp_path, names, malformed={(names[1], 4)})
    assert run(tmp_path, "--test_rows=5") == 0
    train = read_rows(tmp_path / "flickr30k_train.csv")
    assert [caption for _, caption in train] == list(CAPTIONS) * 2
    assert train[9][0] == str(tmp_path / "flickr30k_images" / "flickr30k_images" / names[1])
    assert "repaired        1 rows" in capsys.readouterr().out


def test_karpathy_json_gives_its_three_parts(tmp_path, capsys):
    names = make_images(tmp_path, 6)
    write_karpathy(tmp_path, names, lambda position: ("train", "val", "test", "restval", "train", "test")[position])
    assert run(tmp_path, "--split", "karpathy") == 0
    counts = [len(read_rows(tmp_path / f"flickr30k_{part}.csv")) for part in ("train", "val", "test")]
    assert counts == [15, 5, 10]
    assert "Karpathy, as the annotation has it" in capsys.readouterr().out


def test_karpathy_lists_are_split_at_the_first_image_suffix(tmp_path, capsys):
    names = make_images(tmp_path, 3)
    for name, part in zip(names, ("train", "val", "test"), strict=True):
        lines = ["image,caption", *(f"{name},{caption}" for caption in CAPTIONS)]
        (tmp_path / f"flickr30k_{part}_karpathy.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run(tmp_path, "--split=karpathy") == 0
    assert [caption for _, caption in read_rows(tmp_path / "flickr30k_val.csv")] == list(CAPTIONS)
    lists = ", ".join(f"flickr30k_{part}_karpathy.txt" for part in ("train", "val", "test"))
    assert f"15 rows from {lists}\n" in capsys.readouterr().out


def test_the_val_part_of_an_earlier_split_is_taken_away_and_nothing_else(tmp_path, capsys):
    names = make_images(tmp_path, 3)
    write_karpathy(tmp_path, names, lambda position: ("train", "val", "test")[position])
    assert run(tmp_path, "--split", "karpathy") == 0
    val = tmp_path / "flickr30k_val.csv"
    assert val.is_file()
    assert run(tmp_path, "--test_rows", "5") == 0
    assert not val.exists()
    assert f"removed   {val}" in capsys.readouterr().out

    val.write_text("img_key,caption_key,mine\n", encoding="utf-8")
    assert run(tmp_path, "--test_rows", "5") == 0
    assert val.exists()
    assert f"note: {val} does not belong" in capsys.readouterr().out


def test_all_forms_of_the_same_captions_give_the_same_rows(tmp_path):
    names = make_images(tmp_path, 4)
    write_token(tmp_path, names)
    write_pipes(tmp_path, names)
    write_karpathy(tmp_path, names, lambda position: "train")
    results = []
    for name in ("results_20130124.token", "results.csv", "dataset_flickr30k.json"):
        assert run(tmp_path, "--annotation", name, "--test_rows", "5") == 0
        results.append((tmp_path / "flickr30k_train.csv").read_bytes())
    assert results[0] == results[1] == results[2]


def test_every_refused_row_is_listed_with_its_line_and_reason(tmp_path, capsys):
    names = make_images(tmp_path, 4)
    write_token(tmp_path, names)
    with open(tmp_path / "results_20130124.token", "ab") as file:
        file.write(b"1003.jpg#5\t\n" + b"no row at all\n" + b"1003.jpg#6\tcaf\xe9\n" + b"../x.jpg#0\tup\n")
        file.write(b"gone.jpg#0\tA .\ngone.jpg#1\tB .\n" + b"1003.jpg#7 spaces , not a tab\n")
    assert run(tmp_path, "--test_rows", "5") == 0
    refused = read_rows(tmp_path / "flickr30k_refused.csv")
    assert [(int(line), reason) for _, line, _, reason, _ in refused] == [
        (21, "caption is empty"),
        (22, "not a row of this form"),
        (23, "is not UTF-8"),
        (24, "image name is a path"),
        (25, "image is missing"),
        (26, "image is missing"),
    ]
    printed = capsys.readouterr().out
    assert "read           27 rows" in printed
    assert "repaired        1 rows" in printed
    assert "refused         6 rows, 1 images missing" in printed
    written = len(read_rows(tmp_path / "flickr30k_train.csv")) + len(read_rows(tmp_path / "flickr30k_test.csv"))
    assert written == 21


def test_a_clean_run_takes_the_old_list_of_refusals_away(tmp_path):
    write_token(tmp_path, make_images(tmp_path, 2))
    (tmp_path / "flickr30k_refused.csv").write_text("old")
    assert run(tmp_path, "--test_rows", "5") == 0
    assert not (tmp_path / "flickr30k_refused.csv").exists()


def test_it_works_copied_alone_into_the_data_folder(tmp_path, monkeypatch):
    write_token(tmp_path, make_images(tmp_path, 2))
    shutil.copy(TOOL, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_tool(tmp_path / TOOL.name).main(["--test_rows", "5"]) == 0
    assert len(read_rows(tmp_path / "flickr30k_test.csv")) == 5
    third_party = {"numpy", "torch", "PIL", "pandas", "open_clip", "training"}
    assert not third_party & set(vars(load_tool(tmp_path / TOOL.name)))


def test_too_few_rows_for_the_usual_test_set_are_refused(tmp_path, capsys):
    write_token(tmp_path, make_images(tmp_path, 399))
    assert run(tmp_path) == 3
    assert "1995 rows are too few for the usual 1000 test rows" in capsys.readouterr().err
    assert not (tmp_path / "flickr30k_train.csv").exists()
    assert run(tmp_path, "--test_rows", "1000") == 0


def test_a_test_set_that_cuts_a_image_says_so(tmp_path, capsys):
    write_token(tmp_path, make_images(tmp_path, 3))
    assert run(tmp_path, "--test_rows", "7") == 0
    assert "1 images have rows in both" in capsys.readouterr().out


@pytest.mark.parametrize("test_rows", ["0", "-3", "15"])
def test_an_impossible_number_of_test_rows_is_a_usage_error(tmp_path, test_rows):
    write_token(tmp_path, make_images(tmp_path, 3))
    assert run(tmp_path, f"--test_rows={test_rows}") == 2


@pytest.mark.parametrize(
    "prepare, status, words",
    [
        (lambda folder: None, 3, "no annotation in"),
        (lambda folder: write_token(folder, ["a.jpg"]), 3, "no images in"),
        (lambda folder: (make_images(folder, 1), write_token(folder, ["a.jpg"])), 3, "no row of"),
        (lambda folder: (make_images(folder, 1), write_token(folder, ["a.jpg"], [""])), 3, "no row of"),
        (lambda folder: (folder / "dataset_flickr30k.json").write_text('{"images": [{}]}'), 3, "not a Karpathy"),
        (lambda folder: (folder / "dataset_flickr30k.json").write_text("{"), 3, "not a Karpathy"),
    ],
)
def test_unusable_data_ends_with_status_and_one_line(tmp_path, capsys, prepare, status, words):
    prepare(tmp_path)
    assert run(tmp_path) == status
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_karpathy_is_refused_where_the_annotation_names_no_split(tmp_path, capsys):
    write_token(tmp_path, make_images(tmp_path, 3))
    assert run(tmp_path, "--split", "karpathy") == 3
    assert "looked for dataset_flickr30k.json" in capsys.readouterr().err
    assert run(tmp_path, "--split", "karpathy", "--annotation", "results_20130124.token") == 2


@pytest.mark.parametrize("arguments", [["--split", "other"], ["--test_rows", "many"], ["surplus"]])
def test_a_misspelt_argument_is_a_usage_error(arguments):
    with pytest.raises(SystemExit) as stopped:
        tool.main(arguments)
    assert stopped.value.code == 2


def test_a_folder_that_does_not_exist_is_a_usage_error(tmp_path):
    assert run(tmp_path / "nowhere") == 2
    assert tool.main([f"--data_path={tmp_path}", "--annotation", "nothing.token"]) == 2


def write_table(folder, names, split_of=None, encoding="utf-8"):
    """The two comma-separated forms: image,caption, and the one of the hub with a JSON list of captions an image."""
    with open(folder / "table.csv", "w", encoding=encoding, newline="") as file:
        rows = csv.writer(file)
        if split_of is None:
            rows.writerow(["image", "caption"])
            rows.writerows((name, caption) for name in names for caption in CAPTIONS)
        else:
            rows.writerow(["raw", "sentids", "split", "filename", "img_id"])
            for place, name in enumerate(names):
                rows.writerow([json.dumps(CAPTIONS), "[0, 1, 2, 3, 4]", split_of(place), name, place])


def test_comma_separated_forms_give_the_same_rows(tmp_path):
    names = make_images(tmp_path, 4)
    write_token(tmp_path, names)
    assert run(tmp_path, "--test_rows", "5") == 0
    expected = (tmp_path / "flickr30k_train.csv").read_bytes()
    for split_of in (None, lambda place: "train"):
        write_table(tmp_path, names, split_of)
        assert run(tmp_path, "--annotation", "table.csv", "--test_rows", "5") == 0
        assert (tmp_path / "flickr30k_train.csv").read_bytes() == expected
    plain = ["image,caption", *(f"{name},{caption}" for name in names for caption in CAPTIONS if '"' not in caption)]
    (tmp_path / "captions.txt").write_text("\r\n".join(plain), encoding="utf-8")
    assert run(tmp_path, "--annotation", "captions.txt", "--test_rows", "4") == 0
    assert [one for _, one in read_rows(tmp_path / "flickr30k_test.csv")] == [one for one in CAPTIONS if '"' not in one]


def test_the_form_of_the_hub_is_found_and_has_karpathys_split(tmp_path):
    names = make_images(tmp_path, 4)
    write_table(tmp_path, names, lambda place: ("train", "val", "test", "restval")[place])
    (tmp_path / "table.csv").rename(tmp_path / "flickr_annotations_30k.csv")
    with open(tmp_path / "flickr_annotations_30k.csv", "a") as file:
        file.write("not json,[0],train,1000.jpg,9\nonly one\n")
    assert run(tmp_path, "--split", "karpathy") == 0
    counts = [len(read_rows(tmp_path / f"flickr30k_{part}.csv")) for part in ("train", "val", "test")]
    assert counts == [10, 5, 5]
    problems = [row[3] for row in read_rows(tmp_path / "flickr30k_refused.csv")]
    assert problems == ["not a JSON list of captions", "not a row of this form"]


@pytest.mark.parametrize(
    "encoding, words",
    [
        ("gb18030", "GB18030 (GBK)"),
        ("gbk", "GB18030 (GBK)"),
        ("big5", "Big5"),
        ("utf-16-le", "UTF-16"),
        ("cp1252", "windows-1252"),
    ],
)
@pytest.mark.parametrize("name", ["results_20130124.token", "results.csv", "table.csv"])
def test_an_annotation_in_another_encoding_is_refused_by_name(tmp_path, capsys, encoding, words, name):
    names = make_images(tmp_path, 40)
    captions = ("A caf\u00e9 .", "na\u00efve") if encoding == "cp1252" else ("\u4e00\u96bb\u72d7", "two")
    start, between = {"table.csv": ("image,caption\n", ","), "results.csv": ("", "| 0| ")}.get(name, ("", "#0\t"))
    lines = start + "".join(f"{image}{between}{caption}\n" for image in names for caption in captions)
    (tmp_path / name).write_bytes(lines.encode(encoding))
    assert run(tmp_path, "--annotation", name, "--test_rows", "5") == 3
    error = capsys.readouterr().err
    assert words in error
    assert "iconv -f" in error
    assert not (tmp_path / "flickr30k_train.csv").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_byte_order_marks_are_obeyed(tmp_path, encoding):
    names = make_images(tmp_path, 3)
    write_token(tmp_path, names)
    path = tmp_path / "results_20130124.token"
    path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    assert run(tmp_path, "--test_rows", "5") == 0
    assert [caption for _, caption in read_rows(tmp_path / "flickr30k_test.csv")] == list(CAPTIONS)


def test_formulas_are_text_in_the_list_of_refused_rows_and_untouched_in_the_others(tmp_path):
    names = make_images(tmp_path, 2)
    formulas = ["=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(1)", "\uff1d1"]
    write_token(tmp_path, [*names, "=gone.jpg"], formulas)
    assert run(tmp_path, "--test_rows", "5") == 0
    refused = read_rows(tmp_path / "flickr30k_refused.csv")
    assert [row[2] for row in refused] == ["'=gone.jpg"] * 5
    assert [row[4] for row in refused] == [f"'{formula}" for formula in formulas]
    assert [caption for _, caption in read_rows(tmp_path / "flickr30k_test.csv")] == formulas


def test_planted_links_are_not_followed(tmp_path):
    names = make_images(tmp_path, 2)
    write_token(tmp_path, names)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    planted = ["flickr30k_train.csv", "flickr30k_train.csv.tmp", f".tmp-flickr30k_train.csv-{tool.os.getpid()}"]
    for name in planted:
        (tmp_path / name).symlink_to(victim)
    assert run(tmp_path, "--test_rows", "5") == 0
    assert victim.read_text() == "precious"
    assert not (tmp_path / "flickr30k_train.csv").is_symlink()
    assert len(read_rows(tmp_path / "flickr30k_train.csv")) == 5
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp-")] == []

"""Images are sorted by words of their captions; what fits no class or two is left out, and nothing is overwritten."""

import csv

import class_folder
from sample_images import make_image


def write_table(folder, rows):
    folder.mkdir(exist_ok=True)
    for name in {name for name, _ in rows}:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        make_image(8, 8).save(path)
    with open(folder / "pairs.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filepath", "title"])
        writer.writerows((str(folder / name), caption) for name, caption in rows)
    return ["--data", str(folder / "pairs.csv"), "--csv-separator", ","]


def test_images_go_to_the_class_that_their_captions_name(tmp_path, capsys):
    rows = [
        ("a/1.jpg", "A dog."),
        ("a/1.jpg", "A big Dog runs"),
        ("b/1.jpg", "a dog house"),
        ("a/2.jpg", "a red cat"),
        ("a/3.jpg", "a cat and a dog"),
        ("a/4.jpg", "a hotdog"),
    ]
    flags = write_table(tmp_path / "images", rows)
    assert class_folder.main(["dog", "red cat", *flags, "--out", str(tmp_path / "out")]) == 0
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.jpg"))
    # An image with a cat and a dog names one class: the other is called a red cat.
    assert found == ["dog/000001-1.jpg", "dog/000002-1.jpg", "dog/000003-3.jpg", "red cat/000001-2.jpg"]
    assert "     3  dog" in capsys.readouterr().out


def test_a_class_without_images_and_a_full_folder_are_refused(tmp_path, capsys):
    flags = write_table(tmp_path / "images", [("1.jpg", "a dog")])
    assert class_folder.main(["dog", "owl", *flags, "--out", str(tmp_path / "out")]) == 3
    assert "'owl'" in capsys.readouterr().err
    assert class_folder.main(["dog", *flags, "--out", str(tmp_path / "images")]) == 3
    assert "not empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

import csv
import random

from image_sets import IMAGES_OF_EMOJI
from peer import needs_peer, run_peer
from training.data import read_csv_pairs

pytestmark = needs_peer
WORDS = ("a", "dog", '"big"', "two,", "it's", "pipe|", "tab", "caf\u00e9", "\u732b", "#", "\\", '6"', "  ")


def random_rows(generator, count=20):
    rows = []
    while len(rows) < count:
        caption = " ".join(generator.choices(WORDS, k=generator.randint(1, 6))) + generator.choice(["", "", "\nx"])
        if caption.strip():
            rows.append((generator.choice(IMAGES_OF_EMOJI), caption))
    return rows


def write_list(path, generator, separator, form):
    rows = random_rows(generator)
    with open(path, "w", newline="", encoding="utf-8") as file:
        if form == "plain":
            cleaned = [(image, caption.replace("\n", " ").replace(separator, " ")) for image, caption in rows]
            rows = [row for row in cleaned if row[1].strip() and not row[1].startswith('"')]
            file.write(f"filepath{separator}title\n")
            file.writelines(f"{image}{separator}{caption}\n" for image, caption in rows)
        else:
            writer = csv.writer(file, delimiter=separator, quoting=form)
            writer.writerows([("filepath", "title"), *rows])


def test_rows_of_sound_lists_are_those_of_the_peer(tmp_path):
    generator = random.Random(0)
    lists = []
    for number in range(40):
        separator = "\t,|;"[number % 4]
        path = tmp_path / f"{number}.csv"
        write_list(path, generator, separator, (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, "plain")[number % 3])
        lists.append((str(path), separator))
    theirs = run_peer("csv_rows", {"lists": lists}, tmp_path)
    for number, (path, separator) in enumerate(lists):
        ours = read_csv_pairs(path, separator)
        assert ours.faults == ()
        assert [ours.image_path(index) for index in range(len(ours))] == theirs[f"paths_{number}"].tolist()
        assert [ours.read("text", index) for index in range(len(ours))] == theirs[f"captions_{number}"].tolist()

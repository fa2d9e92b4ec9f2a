"""Makes run folders for the report's tests: whole, broken off, hostile. Trains nothing."""

import base64
import contextlib
import json
from html.parser import HTMLParser
from pathlib import Path

from training.report.jsonl import MetricsWriter

METRICS = (
    {f"image_to_text_R@{k}": share for k, share in ((1, 0.1), (5, 0.4375), (10, 0.5))}
    | {f"text_to_image_R@{k}": 0.25 for k in (1, 5, 10)}
    | {f"text_retrieval_recall@{k}": 0.75 for k in (1, 5, 10)}
    | {f"image_retrieval_recall@{k}": 0.5 for k in (1, 5, 10)}
    | {"num_images": 200, "num_texts": 1000, "clip_val_loss": 2.125}
)
# The smallest bytes that pass for an inline JPEG; no browser looks at it here.
INLINE_JPEG = "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8\xff\xd9").decode()


def write_whole_run(folder: Path, steps: int = 60, epochs: int = 2) -> Path:
    """Write a finished run with two evaluations, events, bad samples and a gallery."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("model: ViT-B-32\nlr: 0.0005\nepochs: 2\ncsv_separator: ','\n")
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        device = {"kind": "cpu", "name": "Some Processor", "count": 1, "memory_bytes": 2**34, "versions": {}}
        versions = {"torch": "2.14.0", "open_clip": "3.3.0+portable.1"}
        writer.write("run", schema=1, device=device, world_size=2, global_batch=64, versions=versions, precision={})
        for step in range(1, steps + 1):
            figures = {"loss": 5.0 - step / steps, "lr": step / 1e5, "samples_per_s": 640.0, "logit_scale": 14.3}
            writer.write("train", step=step, epoch=0, loss_avg=4.5, **figures)
            if step % (steps // epochs) == 0:
                epoch = step // (steps // epochs)
                writer.write("eval", epoch=epoch, step=step, metrics={**METRICS, "epoch": epoch})
                writer.event("checkpoint", step, path=f"checkpoints/epoch_{epoch}.pt")
        writer.event("resume", steps, path="checkpoints/step_30.pt")
    bad = {"source": "train.csv", "row": 7, "path": "7.jpg", "reason": "image file is empty"}
    (folder / "bad_samples.jsonl").write_text(json.dumps(bad) + "\n")
    summary = {"status": "finished", "fps": 641.5, "fps_all_steps": 600.0, "steps": steps, "epochs": epochs}
    summary |= {"train_time_s": 61.0, "e2e_time_s": 90.0, "loss": 4.25, "last_loss": 4.0, "metrics": METRICS}
    summary |= {"device": "Some Processor", "world_size": 2, "checkpoint": "checkpoints/epoch_2.pt"}
    (folder / "summary.json").write_text(json.dumps(summary))
    write_gallery(folder, caption="A dog runs .")
    return folder


def write_gallery(
    folder: Path, caption: str, name: str = "1000092795.jpg", uri: str | None = INLINE_JPEG, **words: str
) -> None:
    """Write a gallery of one image and one caption, each with a right and a wrong answer; ``words`` are its titles."""
    right, wrong = {"score": 0.5, "is_right": True}, {"score": 0.25, "is_right": False}
    thumbnail = {"name": name, "uri": uri, "width": 160, "height": 100}
    texts, images = [wrong | {"content": "A cat ."}, right | {"content": caption}], [right | {"content": "0"}]
    gallery = {
        "images": [{"query": "0", "own": [caption], "matches": texts, "is_right": False}],
        "captions": [{"query": caption, "own": ["0"], "matches": images, "is_right": True}],
        "thumbnails": {"0": thumbnail},
        "num_images": 1,
        "num_texts": 2,
    }
    (folder / "gallery.json").write_text(json.dumps(gallery | words))


class Page(HTMLParser):
    """A parsed page: its tags with attributes, ids, and visible text."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.errors: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data

    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if attrs.get("id")]

    def count(self, tag: str) -> int:
        return sum(one == tag for one, _ in self.tags)

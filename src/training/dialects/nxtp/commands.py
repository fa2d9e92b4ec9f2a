"""NXTP's commands: training and evaluation as a config file says, each a run of ``training.main`` in this process."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import join

from open_clip.errors import ConfigError, OpenClipError, cut_list, printable
from training.device.startup import import_torch
from training.dialects.nxtp.datasets import Datasets, check_length, list_shards, measure_length
from training.dialects.nxtp.settings import Settings, read_config
from training.distributed.env import World, world_from_environment
from training.exit_status import leave_status, leave_words
from training.main import main
from training.params.by_path import load_by_path
from training.report.console import setup_logging

_LOG = logging.getLogger(__name__)


def train(words: Sequence[str] | None = None) -> int:
    """Train as a config file says: ``train.py CONFIG.py [key=value ...] [--print-config]``.

    Args:
        words: Those of the command line; the program's own when None.

    Returns:
        The exit status, as ``training.main`` has them.
    """

    def prepare(given: Sequence[str]) -> int:
        return _start(given, lambda cfg: _train(cfg, given[0]))

    return _answering(prepare, words)


def eval_hook(words: Sequence[str] | None = None) -> int:
    """Call ``main`` of an evaluation file with a config: ``eval_hook.py EVAL.py CONFIG.py [key=value ...]``.

    Returns:
        What ``main`` returns, an exit status.
    """

    def prepare(given: Sequence[str]) -> int:
        if not given or not given[0].endswith(".py"):
            raise ConfigError("name the evaluation and the config: eval_hook.py evals/eval.py configs/config_g3m.py.")
        run = load_by_path(f"{given[0]}:main")
        if not callable(run):
            raise ConfigError(f"{printable(given[0], 200)}: main is no function.")
        return _start(given[1:], run)

    return _answering(prepare, words)


def _answering(prepare: Callable[[Sequence[str]], int], words: Sequence[str] | None) -> int:
    """Run a command; an error before the trainer begins is told as the trainer tells its own."""
    setup_logging(None)
    try:
        import_torch()
        return prepare(sys.argv[1:] if words is None else words)
    except OpenClipError as error:
        _LOG.error("%s", error)
        leave_words(str(error))
        leave_status(error.exit_status)
        return error.exit_status


def _start(words: Sequence[str], run: Callable[[Settings], int]) -> int:
    """Read the config that words name, and print it or run with it."""
    if not words:
        raise ConfigError("name a config file: configs/config_g3m.py.")
    only_prints, fields = _sort_words(words[1:])
    cfg = read_config(words[0], fields)
    if only_prints:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(cfg)))
        return 0
    _settle_device(cfg)
    return run(cfg)


def _settle_device(cfg: Settings) -> None:
    """Let several processes share a CPU where their number was asked for (``NPROC``): ``auto`` would refuse it."""
    if cfg.values().get("device") == "auto" and "NPROC" in os.environ and world_from_environment().is_distributed:
        from training.device.select import device_report

        if not any(missing is None for device, missing in device_report() if device.kind != "cpu"):
            cfg.override("device=cpu")


def _sort_words(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Tell whether ``--print-config`` is among words, and give the others as ``key=value``.

    ``--key value`` is taken for the same, and ``--dataset`` and ``--topk`` for the fields of evaluations.
    """
    fields, rest = [], [word for word in words if word != "--print-config"]
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals:
                if not rest:
                    raise ConfigError(f"'{printable(word, 80)}' has no value behind it.")
                value = rest.pop(0)
            name = name.replace("-", "_")
            word = f"{_SPELLINGS.get(name, name)}={value}"
        fields.append(word)
    return "--print-config" in words, fields


_SPELLINGS = {"dataset": "eval_data_name", "topk": "eval_topk", "ranking": "eval_ranking"}


def _lines(cfg: Settings) -> list[str]:
    return [f"- {name}: {printable(value)}" for name, value in cfg.values().items()]


def _train(cfg: Settings, path: str) -> int:
    from training.dialects.nxtp.flags import Start, training_words

    # Passed over in silence it would train other weights than the file says.
    if hasattr(sys.modules.get(Path(path).stem), "optim_filter"):
        raise ConfigError(
            f"{printable(path, 200)} defines optim_filter, which knows the parameters of NXTP's own model by name. Say "
            "what is trained by train_image_blocks, partial_train_lang_tok_embeddings and special_tokens_to_train, or "
            "in a recipe of your own (recipe = 'FILE.py:NAME'), and take the function out."
        )
    world = world_from_environment()
    datasets = _datasets(cfg)
    values = cfg.values()
    start = Start(datasets, world.world_size, _count_pairs(cfg, datasets, is_master=world.is_master))
    words, unread = training_words(values, start)
    base = type(cfg)().values()
    changed = sorted(name for name in unread if values[name] != base[name])
    if changed and world.is_master:
        _LOG.info("the config sets %s, which change nothing in training here", cut_list(changed, 30))
    return _run(cfg, world, words)


def evaluate(cfg: Settings) -> int:
    """Evaluate ``eval_ckpt_path`` on ``eval_data_name``; what an evaluation file's ``main`` calls.

    Returns:
        The exit status.
    """
    from training.dialects.nxtp.flags import Start, evaluation_words

    world = world_from_environment()
    # The first process's name counts in all.
    start = Start(_datasets(cfg), world.world_size, moment=time.strftime("%Y%m%d-%H%M%S"))
    return _run(cfg, world, evaluation_words(cfg.values(), start))


def _datasets(cfg: Settings) -> Datasets:
    """Read the data sets that ``loader.py`` lists, beside the folder of config files."""
    path = cfg.source_folder() / "loader.py"
    found = load_by_path(f"{path}:_DATASETS_META")
    if not isinstance(found, dict):
        raise ConfigError(f"{printable(path, 300)}: _DATASETS_META is no dict of data sets.")
    return Datasets(found)


def _count_pairs(cfg: Settings, datasets: Datasets, *, is_master: bool) -> int:
    """Count the pairs of the training data, as listed or else measured; the master compares both."""
    values = cfg.values()
    total = 0
    for name in values["data_name"] if isinstance(values["data_name"], tuple) else ():
        meta = datasets.find(name)
        length = meta["length"]
        if length is None or is_master:
            shards = list_shards(name, Path(str(values["data_root"])) / meta["root"])
            measured = measure_length(shards, Path(str(values["cache_root"])) / "lengths")
            check_length(name, length, measured)
            length = measured if length is None else length
        total += length
    return total


def _run(cfg: Settings, world: World, words: list[str]) -> int:
    """Run the trainer, with NXTP's log on standard output of the process that speaks for all."""
    if not world.is_master:
        return main(words)
    _LOG.info("in the trainer's own words: python -m training.main %s", printable(join(words), 4_000))
    with _public_log(cfg, words):
        return main(words)


@contextmanager
def _public_log(cfg: Settings, words: Sequence[str]) -> Iterator[None]:
    from training.dialects.nxtp.log import PublicLog
    from training.params import RunParams, parse_args

    params = RunParams.from_namespace(parse_args(words))
    folder = Path(params.checkpoint.logs_dir) / (params.checkpoint.name or "")
    log = PublicLog(params.schedule, params.optim.accum_freq)
    copy = _ResolvedConfig(cfg, folder)
    for line in _lines(cfg):
        log.say(line)
    root = logging.getLogger()
    root.addHandler(log)
    root.addHandler(copy)
    try:
        yield
    finally:
        root.removeHandler(log)
        root.removeHandler(copy)


class _ResolvedConfig(logging.Handler):
    """Writes the config with all its fields into the run folder, once the trainer has written its own settings."""

    def __init__(self, cfg: Settings, folder: Path) -> None:
        super().__init__()
        self._cfg, self._folder, self._is_written = cfg, folder, False

    def emit(self, record: logging.LogRecord) -> None:
        """Look whether the trainer's settings are there, and put the config beside them."""
        from open_clip.files import write_whole

        if self._is_written or not (self._folder / "config.yaml").exists():
            return
        self._is_written = True
        kind = type(self._cfg)
        lines = [
            '"""Every field of this run; `train.py THIS_FILE` repeats it."""',
            "",
            f"from {kind.__module__} import {kind.__qualname__}",
            "",
            f"cfg = {kind.__qualname__}()",
            *(f"cfg.{name} = {value!r}" for name, value in self._cfg.values().items()),
        ]
        try:
            write_whole(self._folder / "resolved_config.py", "\n".join(lines) + "\n")
        except OSError as error:
            _LOG.warning("cannot write %s: %s", printable(self._folder / "resolved_config.py"), error.strerror)

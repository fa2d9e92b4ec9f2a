"""Flags of the run folder: checkpoints, evaluation and reports."""

from dataclasses import dataclass

from training.params.flags import flag
from training.params.values import SECONDS, folder_name, path, whole


@dataclass(frozen=True)
class CheckpointParams:
    """Run folder and checkpoints."""

    logs_dir: str = flag(
        "./logs/", "folder that holds the run folders; `None` writes nothing", aliases=("--logs",), type=path
    )
    name: str | None = flag(None, "name of the run folder (default: date, model and main settings)", type=folder_name)
    resume: str | None = flag(None, "checkpoint to go on from, or `latest`: the newest good one of --name", type=path)
    save_frequency: int = flag(1, "epochs between two checkpoints; 0 saves only the last", type=whole())
    save_every_n_steps: int = flag(
        0, "optimizer steps between two checkpoints inside an epoch; 0 saves none there", type=whole()
    )
    save_every_n_minutes: float = flag(
        0.0, "minutes between two checkpoints inside an epoch; 0 saves none by the clock", type=SECONDS
    )
    keep_checkpoints: int = flag(0, "newest epoch checkpoints to keep, at least 2; 0 keeps all", type=whole())
    no_save_in_background: bool = flag(
        False, "let training wait for each write: saves the host memory of one copy of the training state"
    )
    save_most_recent: bool = flag(False, "also keep the newest epoch as epoch_latest.pt")
    delete_previous_checkpoint: bool = flag(
        False, "delete the epoch checkpoint before the newest, once that is written"
    )
    remote_sync: str | None = flag(
        None, "where a copy of the run folder is kept, such as s3://bucket/runs; the run's name is added", type=path
    )
    remote_sync_frequency: int = flag(300, "seconds between two copies to --remote-sync", type=whole(1, 10**8))
    remote_sync_protocol: str = flag(
        "s3", "s3: --remote-sync is an S3 address; fsspec: any address fsspec knows", choices=("s3", "fsspec")
    )


@dataclass(frozen=True)
class EvaluateParams:
    """Evaluation."""

    evaluate: list[str] | None = flag(
        None,
        "evaluations to make, of those that the recipe offers for the data given: retrieval, zero-shot, accuracy,"
        " set-retrieval (only where it is named), or its own (default: all others)",
        nargs="+",
        metavar="NAME",
    )
    val_frequency: int = flag(
        1, "epochs between two evaluations; 0 evaluates never; the last epoch always is", type=whole()
    )
    val_every_n_steps: int = flag(
        0,
        "optimizer steps between two evaluations, beside those of the epochs; 0 evaluates at epochs only",
        type=whole(),
    )
    imagenet_val: str | None = flag(
        None,
        "folder of ImageNet's validation images, one folder a class, for zero-shot accuracy; a classnames.txt in it"
        " names other classes",
        type=path,
    )
    imagenet_v2: str | None = flag(
        None, "folder of ImageNet-V2's images, class folders called 0 to 999, for zero-shot accuracy", type=path
    )
    zeroshot_frequency: int = flag(2, "epochs between two zero-shot evaluations; 0 evaluates never", type=whole())
    gallery_size: int = flag(
        12, "images, and as many captions, shown with their five best matches in the report", type=whole(0, 1_000)
    )


@dataclass(frozen=True)
class ReportParams:
    """Reports."""

    log_every_n_steps: int = flag(100, "optimizer steps between two log lines", type=whole(1))
    log_metric_every_n_steps: int = flag(
        10, "optimizer steps between two records in metrics.jsonl and TensorBoard", type=whole(1)
    )
    log_format: str = flag(
        "openclip", "field names of the log lines; modelzoo has Ascend ModelZoo's", choices=("openclip", "modelzoo")
    )
    log_local: bool = flag(False, "one log file for each machine, not only for the first")
    report_to: str = flag("", "further reports: tensorboard")
    debug: bool = flag(False, "log debugging messages too")
    profile: bool = flag(
        False, "record a few steps once the run has settled: a trace for Perfetto in the run folder, a table in its log"
    )
    profile_steps: int = flag(5, "steps that --profile records; a trace of many is slow to open", type=whole(1))

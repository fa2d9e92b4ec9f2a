"""Two runs in one folder: the second is refused at once, with the first named, and harms nothing."""

import os

import pytest

from pairs import make_pairs, micro_flags
from runs import free_port, kill_group, run_trainer, start_trainer, wait_for_step

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data"), 60, 2, name="train.csv")


def flags(table, logs, **extra):
    return micro_flags(table, None, **{"logs_dir": logs, "name": "run", "save_every_n_steps": 3, **extra})


def start_ranks(words):
    """Start two processes that no launcher watches: a refused one must end the other itself."""
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [start_trainer(words, RANK=str(rank), LOCAL_RANK=str(rank), **meeting) for rank in range(2)]
    outputs = [rank.communicate(timeout=240)[0] for rank in ranks]
    return [rank.returncode for rank in ranks], outputs


def test_every_kind_of_second_start_is_refused_and_the_first_goes_on(table, tmp_path):
    run, again = tmp_path / "run", [*flags(table, tmp_path), "--resume", "latest"]
    process = start_trainer(flags(table, tmp_path, epochs=10_000))
    try:
        wait_for_step(run, 4, process)
        # Of an epoch that the first does not come to: it removes what a dead process left of a file that it writes.
        planted = run / "checkpoints" / ".tmp-epoch_9999.pt-1"
        planted.write_bytes(b"what the first is writing")
        evaluation = [*micro_flags(None, table, logs_dir=tmp_path, name="run"), "--resume", "latest"]
        for words in (flags(table, tmp_path), again, evaluation):
            status, output = run_trainer(words)
            assert status == 2, output
            assert f"in use by process {process.pid} on " in output
            assert "Traceback" not in output
        statuses, outputs = start_ranks(again)
        assert statuses == [2, 2], outputs
        assert "the first process cannot use the run folder" in outputs[1]
        assert planted.exists()
        assert process.poll() is None
    finally:
        kill_group(process)
    status, output = run_trainer(again)
    assert status == 0, output
    assert not planted.exists()
    assert not (run / "run.lock").exists()


def test_links_under_the_names_that_a_run_writes_are_never_followed(table, tmp_path):
    run, victim = tmp_path / "run", tmp_path / "victim"
    names = ("params.txt", "config.yaml", "summary.json", "report.html", "evaluations.json", "checkpoints/epoch_1.pt")
    (run / "checkpoints").mkdir(parents=True)
    victim.write_text("precious")
    for name in (*names, "checkpoints/manifest.json", "report.html.tmp"):
        (run / name).symlink_to(victim)
    words = [*micro_flags(table, table, logs_dir=tmp_path, name="run", gallery_size=2), "--resume", "latest"]
    status, output = run_trainer(words)
    assert "Traceback" not in output
    assert status in (0, 4), output
    (run / "checkpoints" / "epoch_1.pt").unlink(missing_ok=True)
    status, output = run_trainer(words)
    assert status == 0, output
    assert victim.read_text() == "precious"
    assert not [name for name in names if os.path.islink(run / name)]

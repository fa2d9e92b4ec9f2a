"""Ranks that die, stop, sleep, starve or lag: the run ends in bounded time and says who it was, or goes on."""

import json
import re
import signal
import time
from pathlib import Path

import pytest

from agents import children, node_arguments, rank_pid, send, start_agent
from pairs import make_pairs, micro_flags
from runs import assert_same_state, free_port, load_payload, read_lines, start_trainer, train_losses, wait_for_step

pytestmark = [pytest.mark.faults, pytest.mark.slow]
TIMEOUT_S = 6
TROUBLED = (str(Path(__file__).parents[1] / "support" / "troubled_trainer.py"),)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data"), 60, 2, name="train.csv")


@pytest.fixture(scope="module")
def uninterrupted(table, tmp_path_factory):
    logs = tmp_path_factory.mktemp("uninterrupted")
    agent = start_agent(flags(table, logs), logs / "agent.log", *one_node())
    assert agent.wait(240) == 0, agent.output()
    return logs / "run"


@pytest.fixture
def start(tmp_path):
    """Start agents that do not outlive the test."""
    agents = []

    def starting(words, *arguments, **options):
        agents.append(start_agent(words, tmp_path / f"agent-{len(agents)}.log", *arguments, **options))
        return agents[-1]

    yield starting
    for agent in agents:
        agent.kill()


def flags(table, logs, **extra):
    chosen = {
        "logs_dir": logs,
        "name": "run",
        "batch_size": 4,
        "save_every_n_steps": 3,
        "dist_timeout_s": TIMEOUT_S,
        "dist_startup_timeout_s": 120,
        "resume": "latest",
        **extra,
    }
    return micro_flags(table, None, **chosen)


def one_node(processes=2):
    return ["--nproc_per_node", processes, "--master_port", free_port()]


def wait_for(run, step, agent):
    wait_for_step(run, step, agent.process)


def events(run, name):
    return [line for line in read_lines(run / "metrics.jsonl") if line["kind"] == "event" and line["event"] == name]


def assert_same_end(run, uninterrupted):
    assert train_losses(run) == train_losses(uninterrupted)
    ours, theirs = (load_payload(path / "checkpoints" / "epoch_2.pt") for path in (run, uninterrupted))
    for key in ("state_dict", "optimizer"):
        assert_same_state(ours[key], theirs[key])


def test_torchrun_restarts_after_a_killed_rank_and_loses_one_save_interval_at_most(
    table, uninterrupted, tmp_path, start
):
    agent = start(flags(table, tmp_path), *one_node(), "--max_restarts", 1)
    run = tmp_path / "run"
    wait_for(run, 8, agent)
    send(rank_pid([agent], 1), signal.SIGKILL)
    assert agent.wait(240) == 0, agent.output()
    assert "nothing to resume" in agent.output()
    assert len(events(run, "resume")) == 1
    resumed = [line for line in agent.output().splitlines() if "=> resuming checkpoint" in line]
    assert len(resumed) == 1
    assert_same_end(run, uninterrupted)


def test_a_stopped_rank_ends_the_run_in_bounded_time_and_is_named(table, tmp_path, start):
    status = tmp_path / "status"
    agent = start(flags(table, tmp_path, epochs=50), *one_node(), OPEN_CLIP_STATUS_FILE=str(status))
    run = tmp_path / "run"
    wait_for(run, 4, agent)
    send(rank_pid([agent], 1), signal.SIGSTOP)
    stopped = time.monotonic()
    assert agent.wait(TIMEOUT_S + 60) != 0
    assert time.monotonic() - stopped < TIMEOUT_S + 30
    assert "rank 1 (" in agent.output()
    assert "gives no sign of life" in agent.output()
    assert status.read_text() == "6\n"
    # Rank 1 may stop between any two collectives of a step; those of the gradients are waited for inside of backward.
    stacks = (run / "stacks" / "rank-0.txt").read_text()
    assert re.search("all_gather|all_reduce|reduce_scatter|_engine_run_backward", stacks), stacks
    assert events(run, "hang")[0]["detail"]["ranks"] == [1]
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"


def test_a_rank_that_sleeps_in_its_model_is_named_with_the_line_it_is_in(table, tmp_path, start):
    status = tmp_path / "status"
    words = flags(table, tmp_path, epochs=50)
    environ = {"TROUBLE": "1:6:6:600", "OPEN_CLIP_STATUS_FILE": str(status)}
    agent = start(words, *one_node(), program=TROUBLED, **environ)
    assert agent.wait(240) != 0
    error = next(line for line in agent.output().splitlines() if "| ERROR |" in line)
    assert "rank 1 (" in error
    assert "in step 6 (step) at" in error
    assert status.read_text() == "6\n"
    stacks = [(tmp_path / "run" / "stacks" / f"rank-{rank}.txt").read_text() for rank in (0, 1)]
    assert "all_gather" in stacks[0]
    assert "troubled_trainer.py" in stacks[1]


def test_a_pause_within_the_limit_costs_nothing(table, uninterrupted, tmp_path, start):
    agent = start(flags(table, tmp_path), *one_node())
    wait_for(tmp_path / "run", 5, agent)
    pid = rank_pid([agent], 1)
    send(pid, signal.SIGSTOP)
    time.sleep(TIMEOUT_S * 0.6)
    send(pid, signal.SIGCONT)
    assert agent.wait(240) == 0, agent.output()
    assert "goes on after" in agent.output()
    assert_same_end(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize(
    "number,said",
    [(signal.SIGSTOP, "(data) at"), (signal.SIGKILL, "a data worker process died")],
    ids=["starves", "dies"],
)
def test_a_rank_whose_data_workers_fail_is_named_and_the_status_is_3(table, tmp_path, start, number, said):
    status = tmp_path / "status"
    words = flags(table, tmp_path, epochs=50, workers=1)
    agent = start(words, *one_node(), OPEN_CLIP_STATUS_FILE=str(status))
    wait_for(tmp_path / "run", 4, agent)
    workers = [pid for pid in children(rank_pid([agent], 1)) if b"training.main" in command_of(pid)]
    for pid in workers:
        send(pid, number)
    assert agent.wait(TIMEOUT_S + 60) != 0
    assert said in agent.output()
    assert "rank 1 (" in agent.output()
    assert status.read_text() == "3\n"


def test_a_single_process_whose_loader_gives_nothing_ends_too(table, tmp_path):
    process = start_trainer(flags(table, tmp_path, epochs=50, workers=1))
    wait_for_step(tmp_path / "run", 4, process)
    for pid in children(process.pid):
        send(pid, signal.SIGSTOP)
    output, _ = process.communicate(timeout=TIMEOUT_S + 30)
    assert process.returncode == 3, output
    assert "no batch came for" in output
    assert (tmp_path / "run" / "stacks" / "rank-0.txt").is_file()


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_slow_rank_is_named_once_and_so_is_its_recovery(table, tmp_path, start):
    words = flags(table, tmp_path, epochs=6)
    agent = start(words, *one_node(), program=TROUBLED, TROUBLE="1:5:45:0.3")
    assert agent.wait(300) == 0, agent.output()
    slow, recovered = (events(tmp_path / "run", name) for name in ("slow_rank", "slow_rank_recovered"))
    assert [event["detail"]["ranks"] for event in slow] == [[1]]
    assert [event["detail"]["ranks"] for event in recovered] == [[1]]
    assert 20 <= slow[0]["step"] <= 40
    assert agent.output().count("slow for 20 steps") == 1


class TestTwoNodes:
    """Two agents on this machine stand for two nodes."""

    @pytest.fixture
    def nodes(self, table, tmp_path, start):
        def starting(**extra):
            words, port = flags(table, tmp_path, **extra), free_port()
            status = str(tmp_path / f"status-{port}")
            nodes = [start(words, *node_arguments(port), OPEN_CLIP_STATUS_FILE=status) for _ in range(2)]
            return nodes, Path(status)

        return starting

    @pytest.mark.parametrize("lost", [0, 1])
    def test_a_lost_node_ends_the_other_in_bounded_time_and_both_go_on_exactly(
        self, uninterrupted, tmp_path, nodes, lost
    ):
        pair, status = nodes()
        wait_for(tmp_path / "run", 8, pair[0])
        victim, survivor = self.by_rank(pair, lost)
        victim.kill()
        died = time.monotonic()
        assert survivor.wait(TIMEOUT_S + 60) != 0
        assert time.monotonic() - died < TIMEOUT_S + 30
        said = survivor.output()
        assert f"rank {lost} (" in said or "meeting point" in said, said[-3000:]
        assert "--resume latest" in said
        assert status.read_text() == "6\n"
        again, _ = nodes()
        assert [agent.wait(240) for agent in again] == [0, 0], again[0].output()
        assert_same_end(tmp_path / "run", uninterrupted)

    def test_a_node_that_only_lost_its_launcher_lets_all_stop_with_a_checkpoint(self, tmp_path, nodes):
        pair, status = nodes(epochs=50)
        wait_for(tmp_path / "run", 5, pair[0])
        victim, survivor = self.by_rank(pair, 1)
        send(victim.process.pid, signal.SIGKILL)
        assert survivor.wait(TIMEOUT_S + 60) != 0
        assert "torchrun, which started rank 1, is gone" in victim.output()
        assert "stopped on request after step" in survivor.output()
        assert status.read_text() == "75\n"

    def test_sigterm_on_one_rank_of_one_node_stops_both_at_the_same_step(self, uninterrupted, tmp_path, nodes):
        pair, status = nodes()
        wait_for(tmp_path / "run", 5, pair[0])
        send(rank_pid(pair, 1), signal.SIGTERM)
        assert all(agent.wait(TIMEOUT_S + 60) != 0 for agent in pair)
        assert status.read_text() == "75\n"
        steps = [self.stopped_at(agent) for agent in pair]
        assert steps[0] == steps[1] > 0
        command = next(line for line in pair[0].output().splitlines() if "--rdzv_backend c10d" in line)
        assert "--nnodes 2" in command
        assert "--nproc_per_node 1" in command
        again, _ = nodes()
        assert [agent.wait(240) for agent in again] == [0, 0], again[0].output()
        assert_same_end(tmp_path / "run", uninterrupted)

    @staticmethod
    def by_rank(pair, rank):
        """Give (the agent that started a rank, the other one)."""
        pid = rank_pid(pair, rank)
        mine = next(agent for agent in pair if pid in children(agent.process.pid))
        return mine, next(agent for agent in pair if agent is not mine)

    @staticmethod
    def stopped_at(agent):
        line = next(line for line in agent.output().splitlines() if "stopped on request after step" in line)
        return int(line.partition("after step ")[2].partition(";")[0])

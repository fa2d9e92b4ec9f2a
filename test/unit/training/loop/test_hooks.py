"""The loop calls every hook at the same points of a run, and does what any of them wants."""

import contextlib

from loop_runs import SmallRun, make_batches
from training.loop import Hook, Hooks, Wants


class Diary(Hook):
    """Writes down what it hears; after some steps it wants something."""

    def __init__(self, **wants):
        self.lines, self._wants = [], {int(step.removeprefix("step_")): want for step, want in wants.items()}

    def batch_arrived(self):
        self.lines.append("batch")

    def step_done(self, step):
        self.lines.append(f"step {step}")
        return self._wants.get(step, Wants.NOTHING)

    def save(self, moment):
        self.lines.append(f"save {moment.epoch} {moment.step} {moment.ends_epoch}")

    def evaluate(self, moment):
        self.lines.append(f"evaluate {moment.epoch} {moment.step} {moment.ends_epoch}")

    @contextlib.contextmanager
    def during(self, phase):
        self.lines.append(f"enter {phase}")
        yield
        self.lines.append(f"leave {phase}")


def run_with(*hooks, batches=3, **options):
    run = SmallRun(make_batches(batches), **options)
    run.trainer.hooks = Hooks(hooks)
    run.train()
    return run


def test_a_run_tells_its_hooks_of_batches_steps_saves_and_evaluations_in_order():
    diary = Diary()
    run_with(diary, batches=3, accum_freq=2)
    at_the_end = ["enter save", "save 1 2 True", "leave save", "enter evaluation", "evaluate 1 2 True"]
    assert diary.lines == ["batch", "batch", "step 1", "batch", "step 2", *at_the_end, "leave evaluation"]


def test_what_one_hook_wants_inside_an_epoch_all_are_told_to_do():
    diary, other = Diary(step_1=Wants.SAVE | Wants.EVALUATION, step_2=Wants.EVALUATION), Diary(step_2=Wants.SAVE)
    run_with(diary, other)
    for one in (diary, other):
        done = [line for line in one.lines if line.startswith(("save", "evaluate"))]
        assert done == [
            *("save 0 1 False", "evaluate 0 1 False", "save 0 2 False", "evaluate 0 2 False"),
            *("save 1 3 True", "evaluate 1 3 True"),
        ]


def test_what_is_wanted_after_the_last_step_of_an_epoch_is_done_once_at_its_end():
    diary = Diary(step_3=Wants.SAVE | Wants.EVALUATION)
    run_with(diary)
    assert [line for line in diary.lines if line.startswith(("save", "evaluate"))] == [
        "save 1 3 True",
        "evaluate 1 3 True",
    ]


def test_an_evaluation_inside_an_epoch_belongs_to_no_step_time():
    class Slow(Diary):
        def evaluate(self, moment):
            super().evaluate(moment)
            run.trainer._clock._mark -= 1000

    slow, run = Slow(step_1=Wants.EVALUATION), SmallRun(make_batches(2))
    ticks = []
    run.events.tick = lambda progress, lr, samples, step_time_s: ticks.append(step_time_s)
    run.trainer.hooks = Hooks([slow])
    run.train()
    assert max(ticks) < 1000

from training.distributed import Standings


def feed(standings, own_s, reports, steps=1, step_s=1.0):
    told = [standings.update(own_s, steps, step_s) for _ in range(reports)]
    return [slow for slow, _ in told if slow], [recovered for _, recovered in told if recovered]


def test_a_rank_slow_for_twenty_steps_is_named_once():
    standings = Standings()
    assert feed(standings, [0.1, 0.1, 0.2], 19) == ([], [])
    named, _ = feed(standings, [0.1, 0.1, 0.2], 50)
    assert named == [{2: 2.0}]


def test_reports_over_ten_steps_each_count_for_ten():
    assert feed(Standings(), [0.1, 0.2], 2, steps=10)[0] == [{1: 2.0}]


def test_a_pause_starts_the_count_anew():
    standings = Standings()
    for _ in range(5):
        assert feed(standings, [0.1, 0.2], 15) == ([], [])
        assert feed(standings, [0.1, 0.1], 1) == ([], [])


def test_a_rank_that_caught_up_is_told_once_and_may_be_named_again():
    standings = Standings()
    feed(standings, [0.1, 0.2], 20)
    assert feed(standings, [0.1, 0.1], 40) == ([], [[1]])
    assert feed(standings, [0.1, 0.2], 20)[0] == [{1: 2.0}]


def test_a_little_slower_is_not_slow():
    assert feed(Standings(), [0.1, 0.1, 0.125], 100) == ([], [])


def test_a_lag_that_costs_no_time_worth_speaking_of_is_not_slow():
    assert feed(Standings(), [0.001, 0.002], 100, step_s=1.0) == ([], [])

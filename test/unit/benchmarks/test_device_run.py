import pytest

from benchmarks.__main__ import choose_rows
from benchmarks.device_run import add_rates
from benchmarks.results import RowResult

PEAK = {"flops": 800e12, "published_flops": 989e12}


def step(name="device-step-b16", peer_s=0.4, ours_s=0.2):
    facts = {"batch": 512, "peer's operations a sample and step": 120e9}
    result = RowResult(name, unit="steps", status="measured", facts=facts)
    sides = {"peer": peer_s, "ours": ours_s}
    result.add_rounds(
        [{side: {"wall_s": 9.0, "cpu_s": 9.0, "device_s": 10 * s, "units": 10} for side, s in sides.items()}]
    )
    return result


def test_shares_of_the_peak_count_the_peers_operations_for_both_sides():
    result = step()
    add_rates(result, PEAK, [])
    assert result.facts["samples a second"] == {"peer": 1280.0, "ours": 2560.0}
    assert result.facts["ours"]["TFLOP a second"] == pytest.approx(307.2)
    assert result.facts["ours"]["of the measured peak"] == pytest.approx(307.2 / 800, abs=1e-4)
    assert result.facts["ours"]["of the published peak"] == pytest.approx(307.2 / 989, abs=1e-4)
    assert result.facts["peer"]["TFLOP a second"] == pytest.approx(153.6)


def test_the_rate_from_tars_is_held_against_the_rate_without_reading():
    synthetic = step()
    add_rates(synthetic, PEAK, [])
    result = RowResult("device-tars-b16", unit="samples", status="measured", facts={"batch": 512})
    result.add_rounds([{"ours": {"wall_s": 10.0, "cpu_s": 1.0, "device_s": 10.0, "units": 20480}}])
    add_rates(result, PEAK, [synthetic])
    assert result.facts["samples a second"] == {"ours": 2048.0}
    assert result.facts["of the synthetic rate"] == 0.8


def test_a_row_that_was_not_measured_has_no_rate():
    result = RowResult("device-step-b16", facts={"batch": 512})
    add_rates(result, PEAK, [])
    assert result.facts == {"batch": 512}


def test_device_rows_and_host_rows_are_chosen_apart():
    host, device = choose_rows([], "host"), choose_rows([], "device")
    assert "step-short" in host
    assert all(name.startswith("device-") for name in device)
    assert not set(host) & set(device)
    assert choose_rows(["*-b16"], "device") == ["device-step-b16", "device-tars-b16"]


def test_a_row_of_the_other_kind_is_refused():
    with pytest.raises(SystemExit, match="device-step-b32"):
        choose_rows(["step-short"], "device")

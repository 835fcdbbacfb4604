from engine.flow.metrics import COUNTERS, SeenMeters, stage_increments
from engine.flow.report import PartReport, StageReport


def report(**meters: dict[str, float]) -> PartReport:
    return PartReport("part", 4, meters={"seer": meters})


def test_only_what_was_computed_now_is_counted() -> None:
    part = PartReport("part", 4)
    part.stages["describe"] = StageReport(computed=4, requests=5, output_tokens=80, failed={"broken": 1})
    part.stages["caption"] = StageReport(failed={"broken": 1})  # its table had been committed before
    assert set(stage_increments(part)) == {
        ("connote_samples", "describe", 4),
        ("connote_failed_samples", "describe", 1),
        ("connote_requests", "describe", 5),
        ("connote_output_tokens", "describe", 80),
    }


def test_an_actors_time_is_counted_once_however_its_reports_come() -> None:
    seen, total = SeenMeters(), dict.fromkeys(COUNTERS, 0.0)
    first = {"busy_s": 1.0, "alive_s": 4.0, "in_flight": 9.0}
    second = {"busy_s": 3.0, "alive_s": 10.0, "in_flight": 2.0}
    other = {"busy_s": 5.0, "alive_s": 6.0, "in_flight": 1.0}
    for each in (report(a=first), report(a=second), report(a=first), report(a=second, b=other)):
        for name, pool, amount in seen.increments(each):
            assert pool == "seer" and amount > 0
            total[name] += amount
    assert (total["connote_engine_busy_seconds"], total["connote_engine_alive_seconds"]) == (8, 16)
    assert seen.in_flight() == {"seer": 3}, "of each actor what it said last"

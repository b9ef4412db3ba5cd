"""The measuring protocol, on a clock that only the sessions move."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from fqbench.errors import DataError, InputError
from fqbench.latency.protocol import LatencyReport, Subject, measure
from fqbench.latency.results import AnswerCheck
from fqbench.latency.steadiness import Doubt
from fqbench.plugins import Arithmetic, SessionBase
from fqbench.reporter import Silent

MS = 1_000_000
IMAGES = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)


class FakeClock:
    def __init__(self) -> None:
        self.now = 0
        self.readings = 0

    def __call__(self) -> int:
        self.readings += 1
        return self.now


class FakeSession(SessionBase):
    """Takes the given times, and answers with the mean of each channel."""

    arithmetic = Arithmetic(integer_macs=90, total_macs=100)

    def __init__(
        self, clock: FakeClock, times: int | Iterable[int], answer: Callable[..., object] | None = None
    ) -> None:
        self.clock = clock
        self.times: Iterator[int] = itertools.repeat(times) if isinstance(times, int) else iter(times)
        self.answer = answer or channel_means
        self.seen: list[NDArray[np.float32]] = []
        self.taken: list[int] = []

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.seen.append(images)
        self.taken.append(next(self.times))
        self.clock.now += self.taken[-1]
        return self.answer(images)  # type: ignore[return-value]


def channel_means(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images.mean(axis=(2, 3))


def jitter(typical: int, seed: int, spread: float = 0.02) -> Iterator[int]:
    generator = np.random.default_rng(seed)
    while True:
        yield int(typical * (1 + spread * generator.standard_normal()))


def compare(*times: int | Iterable[int], rounds: int = 400, **options: object) -> LatencyReport:
    clock = FakeClock()
    subjects = [Subject(f"s{i}", f"subject {i}", FakeSession(clock, own)) for i, own in enumerate(times)]
    settings: dict[str, object] = {"reference": "s0", "seconds": 0, "clock": clock, "replicates": 200, **options}
    return measure(subjects, IMAGES, rounds=rounds, **settings)  # type: ignore[arg-type]


def doubts_of(report: LatencyReport, subject: str) -> set[Doubt]:
    return {mark.doubt for mark in report[subject].marks}


def test_constant_times_give_exact_figures() -> None:
    report = compare(10 * MS, 4 * MS, batch=2)
    fast = report["s1"]
    assert (fast.p50_ms.low, fast.p50_ms.value, fast.p50_ms.high) == (4.0, 4.0, 4.0)
    assert fast.p99_ms.value == 4.0
    assert fast.images_per_second.value == pytest.approx(2 / 0.004)
    assert fast.ratio is not None
    assert (fast.ratio.low, fast.ratio.value, fast.ratio.high) == pytest.approx((0.4, 0.4, 0.4))
    assert fast.speedup is not None
    assert fast.speedup.value == pytest.approx(2.5)
    assert fast.marks == ()
    assert fast.arithmetic.integer_share == 0.9


def test_reference_has_ratio_one_and_no_reference_no_ratio() -> None:
    report = compare(jitter(MS, 1), jitter(MS, 2))
    assert report["s0"].ratio is not None
    assert dataclasses.astuple(report["s0"].ratio) == (1.0, 1.0, 1.0)
    assert compare(MS, reference=None)["s0"].ratio is None


def test_drift_that_hits_all_alike_leaves_the_ratio() -> None:
    """The machine becomes twice as slow while it measures: each median moves, their ratio does not."""
    slowing = [1.0] * 60 + list(np.linspace(1, 2, 1000))
    report = compare([int(10 * MS * s) for s in slowing], [int(5 * MS * s) for s in slowing])
    assert report["s1"].ratio is not None
    assert report["s1"].ratio.low == pytest.approx(0.5, rel=1e-6)
    assert report["s1"].ratio.high == pytest.approx(0.5, rel=1e-6)
    assert Doubt.DRIFTING in doubts_of(report, "s1")


def test_each_round_runs_every_subject_once_in_random_but_seeded_order() -> None:
    def orders(report: LatencyReport) -> NDArray[np.int64]:
        return np.array([[run.position for run in subject.runs] for subject in report.subjects])

    first, again, other = (orders(compare(MS, MS, MS, seed=seed)) for seed in (7, 7, 8))
    assert (np.sort(first, axis=0) == np.arange(3)[:, None]).all()
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    counts = np.array([np.bincount(positions, minlength=3) for positions in first])
    assert (counts > 0.25 * first.shape[1]).all()


def test_subjects_of_a_round_see_the_same_batch() -> None:
    clock = FakeClock()
    sessions = [FakeSession(clock, MS), FakeSession(clock, MS)]
    subjects = [Subject(str(i), str(i), session) for i, session in enumerate(sessions)]
    measure(subjects, IMAGES[:5], batch=2, rounds=10, seconds=0, clock=clock, replicates=100)
    for one, two in zip(sessions[0].seen, sessions[1].seen, strict=True):
        np.testing.assert_array_equal(one, two)
    seen = np.concatenate(sessions[0].seen)
    assert not (seen == IMAGES[4]).all(axis=(1, 2, 3)).any(), "the odd image out makes no batch"


def test_rounds_go_through_the_images_and_count_from_zero() -> None:
    clock = FakeClock()
    session = FakeSession(clock, MS)
    report = measure([Subject("a", "a", session)], IMAGES, batch=2, rounds=7, seconds=0, clock=clock, replicates=100)
    measured = [run for run in report["a"].runs if not run.warmup]
    assert [run.round for run in measured] == list(range(7))
    for number, seen in enumerate(session.seen[-7:]):
        start = 2 * (number % 3)
        np.testing.assert_array_equal(seen, IMAGES[start : start + 2])


def test_clock_is_read_right_before_and_after_each_call_and_once_a_round() -> None:
    clock = FakeClock()
    between: list[int] = []

    def note(images: NDArray[np.float32]) -> NDArray[np.float32]:
        between.append(clock.readings)
        return channel_means(images)

    sessions = [FakeSession(clock, MS, note), FakeSession(clock, MS, note)]
    measure([Subject(str(i), "x", s) for i, s in enumerate(sessions)], IMAGES, rounds=10, seconds=0, clock=clock)
    steps = np.diff(between)
    assert len(between) == 2 * (41 + 10)
    assert set(steps[: 2 * 41 - 1]) == {2}, "warm-ups: one reading after a call and one before the next"
    assert set(steps[2 * 41 :: 2]) == {2}, "within a round"
    assert set(steps[2 * 41 + 1 :: 2]) == {3}, "between rounds, the time gone by"


def test_warm_up_ends_when_the_rate_is_steady() -> None:
    falling = [20 * MS - i * MS // 2 for i in range(30)]
    report = compare(itertools.chain(falling, itertools.repeat(5 * MS)))
    subject = report["s0"]
    warmups = [run for run in subject.runs if run.warmup]
    assert 60 <= len(warmups) <= 75
    assert set(subject.nanoseconds) == {5 * MS}
    assert Doubt.UNSTEADY not in doubts_of(report, "s0")


def test_steady_subjects_wait_for_the_others() -> None:
    falling = [20 * MS - i * MS // 2 for i in range(30)]
    report = compare(MS, itertools.chain(falling, itertools.repeat(5 * MS)))
    lengths = {sum(run.warmup for run in subject.runs) for subject in report.subjects}
    assert len(lengths) == 1
    assert lengths.pop() > 41


def test_noisy_but_stationary_times_settle() -> None:
    report = compare(jitter(MS, 3), jitter(2 * MS, 4))
    assert doubts_of(report, "s0") == doubts_of(report, "s1") == set()


def test_rate_that_never_settles_is_marked_and_said_aloud() -> None:
    class Lines(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, line: str) -> None:
            self.lines.append(line)

    reporter = Lines()
    report = compare(MS, (int(MS * 0.98**i) + 1 for i in itertools.count()), rounds=20, reporter=reporter)
    assert sum(run.warmup for run in report["s1"].runs) == 300
    assert Doubt.UNSTEADY in doubts_of(report, "s1")
    assert Doubt.UNSTEADY not in doubts_of(report, "s0")
    assert any("WARNING" in line and "subject 1" in line for line in reporter.lines)


def test_warm_up_of_slow_calls_ends_after_about_a_minute_for_each_subject() -> None:
    slow = 10_000 * MS
    report = compare(slow, (int(slow * 0.98**i) + 1 for i in itertools.count()), rounds=3)
    assert {sum(run.warmup for run in subject.runs) for subject in report.subjects} == {41}
    assert Doubt.UNSTEADY in doubts_of(report, "s1")


def test_wide_spread_is_marked() -> None:
    assert Doubt.NOISY in doubts_of(compare(jitter(MS, 5, spread=0.2)), "s0")


@pytest.mark.parametrize(("rounds", "few"), [(367, True), (368, False)])
def test_too_few_rounds_for_p99_are_marked(rounds: int, few: bool) -> None:
    report = compare(MS, rounds=rounds)
    assert (Doubt.FEW_ROUNDS in doubts_of(report, "s0")) is few
    assert np.isinf(report["s0"].p99_ms.high) == few
    assert (report.to_dict()["subjects"][0]["p99_ms"]["high"] is None) is few


def test_runs_shorter_than_the_timer_can_tell_are_marked() -> None:
    class CoarseClock(FakeClock):
        def __call__(self) -> int:
            self.now += 50
            return super().__call__()

    clock = CoarseClock()
    report = measure([Subject("a", "a", FakeSession(clock, 1000))], IMAGES, rounds=400, seconds=0, clock=clock)
    assert Doubt.SHORT in doubts_of(report, "a")


def test_it_measures_at_least_the_asked_for_seconds() -> None:
    report = compare(10 * MS, 30 * MS, rounds=5, seconds=2.0)
    assert report.rounds == 50
    assert report.seconds == pytest.approx(2.0)


def test_every_raw_value_is_kept() -> None:
    clock = FakeClock()
    sessions = [FakeSession(clock, jitter(MS, seed)) for seed in (1, 2)]
    subjects = [Subject(str(i), str(i), session) for i, session in enumerate(sessions)]
    report = measure(subjects, IMAGES, rounds=50, seconds=0, clock=clock)
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    for session, subject, read in zip(sessions, report.subjects, written["subjects"], strict=True):
        assert [run.nanoseconds for run in subject.runs] == session.taken
        assert read["warmups_ns"] + read["rounds_ns"] == session.taken
        assert len(read["warmup_positions"] + read["round_positions"]) == len(session.taken)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report["0"].runs[0].nanoseconds = 0  # type: ignore[misc]


def checked(answer: Callable[..., object] | None, batch: int = 2) -> LatencyReport:
    clock = FakeClock()
    session = FakeSession(clock, MS, answer)
    subject = Subject("a", "a", session, expected=channel_means(IMAGES))
    return measure([subject], IMAGES, batch=batch, rounds=9, seconds=0, clock=clock, replicates=100)


def test_same_answers_pass() -> None:
    report = checked(None)
    check = report["a"].answers
    assert check is not None
    assert check.same
    assert (check.largest_difference, check.disagreements) == (0.0, 0)
    assert check.answers == 2 * len(report["a"].runs), "warm-ups are checked, too"
    assert Doubt.DIFFERENT_ANSWERS not in doubts_of(report, "a")


def test_answers_are_the_same_up_to_the_tolerance() -> None:
    assert AnswerCheck(4, 0.5, 0.5, 1).same
    assert not AnswerCheck(4, 0.5 + 1e-12, 0.5, 1).same
    assert AnswerCheck(4, 0.5, 0.5, 1).disagreement == 0.25
    assert AnswerCheck(0, 0.0, 0.0, 0).disagreement == 0.0, "nothing was compared"


def test_fast_but_different_session_is_found_out() -> None:
    report = checked(lambda images: np.roll(channel_means(images), 1, axis=1))
    check = report["a"].answers
    assert check is not None
    assert check.disagreement == 1.0
    assert check.largest_difference > 0.1
    assert report["a"].marks[0].doubt is Doubt.DIFFERENT_ANSWERS


def test_session_that_answers_once_and_then_repeats_itself_is_found_out() -> None:
    memory: list[NDArray[np.float32]] = []

    def lazy(images: NDArray[np.float32]) -> NDArray[np.float32]:
        memory.append(channel_means(images))
        return memory[0]

    assert Doubt.DIFFERENT_ANSWERS in doubts_of(checked(lazy), "a")


def test_session_that_reuses_its_buffer_is_not_accused() -> None:
    buffer = np.empty((2, 3), np.float32)

    def reuse(images: NDArray[np.float32]) -> NDArray[np.float32]:
        buffer[:] = channel_means(images)
        return buffer

    assert Doubt.DIFFERENT_ANSWERS not in doubts_of(checked(reuse), "a")


@pytest.mark.parametrize(
    "answer",
    [
        lambda images: channel_means(images)[:, :2],
        lambda images: channel_means(images)[:1],
        lambda images: np.full((len(images), 3), np.nan, np.float32),
    ],
    ids=["fewer classes", "fewer rows", "not a number"],
)
def test_malformed_answers_are_found_out(answer: Callable[..., object]) -> None:
    report = checked(answer)
    check = report["a"].answers
    assert check is not None
    assert (check.largest_difference, check.disagreement) == (float("inf"), 1.0)
    assert Doubt.DIFFERENT_ANSWERS in doubts_of(report, "a")
    json.dumps(report.to_dict(), allow_nan=False)


def test_garbage_collection_is_off_meanwhile_and_on_again() -> None:
    states = []

    def watching(images: NDArray[np.float32]) -> NDArray[np.float32]:
        states.append(gc.isenabled())
        if len(states) == 45:
            raise ZeroDivisionError
        return channel_means(images)

    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        checked(watching)
    assert not any(states)
    assert gc.isenabled()


def subject(name: str, **options: object) -> Subject:
    return Subject(name, name, FakeSession(FakeClock(), MS), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subjects", "options", "error", "message"),
    [
        ([], {}, InputError, "nothing to measure"),
        ([subject("a"), subject("a")], {}, InputError, "a would be measured twice"),
        ([subject("fp32")], {"reference": "fp23"}, InputError, "'fp23' is not among the subjects: did you mean 'fp32'"),
        ([subject("a")], {"rounds": 0}, InputError, "0 rounds measure nothing"),
        ([subject("a")], {"batch": 7}, InputError, "a batch of 7 cannot be filled from 6 image"),
        ([subject("a", expected=np.zeros((5, 3)))], {}, DataError, "5 images and is measured on 6"),
    ],
)
def test_wrong_input_is_refused(
    subjects: list[Subject], options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        measure(subjects, IMAGES, **options)  # type: ignore[arg-type]


def test_unknown_subject_of_a_report_is_an_error() -> None:
    with pytest.raises(InputError, match="'s9' was not measured here"):
        compare(MS)["s9"]

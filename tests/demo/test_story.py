"""What is told of runs: only what had an effect, each thing with its rule."""

import pytest

from standby.clients import ClientError
from standby.demo._serving import trail_in_words
from standby.demo._story import Storyteller, what_failed
from standby.demo._summary import duration, quantile
from standby.demo._tally import Ended, Tally
from standby.runner import Failure, RunRecord, Try, classify, compile_rules, decide
from standby.store import Cool, Demote, RunnerPolicy, RuntimePolicy, Succeeded

RULES = compile_rules(
    RunnerPolicy.model_validate(
        {
            "failoverPolicy": {"allowCategories": ["timeout"]},
            "priorityDemotePolicy": {"enabled": True, "categories": ["timeout"]},
        }
    ),
    RuntimePolicy.model_validate({"retryPolicy": {"denyCategories": ["timeout"]}}),
)
DOMAIN = "candidate:chat/slow"


def failed(at, *effects, did="next", began_at=0.0):
    error = ClientError("timeout", "too late", retryable=True)
    info = classify(error.code, error.message, 0)
    failure = Failure(info, True, None, "candidate", "unknown", "", error)
    decisions = decide(RULES, info, retryable=True)
    return Try("slow", 1, began_at, at, failure, decisions, did, effects=effects)


def answered(at, *effects):
    return Try("slow", 1, at - 0.1, at, effects=effects)


def run_of(*tries, ending="answered"):
    record = RunRecord("run_1", "chat", 1, tries[0].began_at, ended_at=tries[-1].ended_at, ending=ending)
    record.tries.extend(tries)
    return record


def told(storyteller, *tries):
    return [f"{telling.candidate} {telling.what}: {telling.words}" for telling in storyteller.of_run(run_of(*tries))]


def test_a_demotion_is_told_once_per_incident():
    """Four calls hang at once: the first demotes; the others began before that, and change nothing."""
    story = Storyteller()
    demotes = [Demote(DOMAIN, at, 0.0, 100, 600, "timeout") for at in (1.0, 1.1)]
    assert told(story, failed(1.0, demotes[0])) == ["chat/slow no answer in time: next, rank +100"]
    assert told(story, failed(1.1, demotes[1])) == ["chat/slow no answer in time: next"]
    later = Demote(DOMAIN, 5.0, 4.0, 100, 600, "timeout")
    assert told(story, failed(5.0, later, began_at=4.0)) == ["chat/slow no answer in time: next, rank +100"]


def test_a_shorter_cooldown_is_not_told():
    """It changes nothing: cooldowns are extended, never shortened."""
    story = Storyteller()
    assert told(story, failed(1.0, Cool(DOMAIN, 1.0, 31.0, 1, "timeout: x (a.b = c)"))) == [
        "chat/slow no answer in time: next, out 30.0 s"
    ]
    assert told(story, failed(2.0, Cool(DOMAIN, 2.0, 12.0, 1, "timeout: x (a.b = c)"))) == [
        "chat/slow no answer in time: next"
    ]


def test_who_was_left_out_and_answers_is_back():
    """A success that ends nothing but a count of failures is no news."""
    story = Storyteller()
    assert told(story, answered(1.0, Succeeded(DOMAIN, 1.0, 0.9))) == []
    list(story.of_run(run_of(failed(2.0, Cool(DOMAIN, 2.0, 4.0, 1, "timeout: 3 failures in a row (ejectAfter 3)")))))
    assert told(story, answered(5.0, Succeeded(DOMAIN, 5.0, 4.9))) == ["chat/slow probe answered: back"]
    assert told(story, answered(6.0, Succeeded(DOMAIN, 6.0, 5.9))) == []


def test_a_retry_that_cannot_be_is_not_told():
    """A candidate that is left out is not tried again, whatever was decided a moment before."""
    cool = Cool(DOMAIN, 1.0, 3.0, 1, "timeout: 3 failures in a row (ejectAfter 3)")
    assert told(Storyteller(), failed(1.0, cool, did="retry")) == ["chat/slow no answer in time: out 2.0 s"]


def test_a_demotion_that_wears_off_is_told():
    """Only then: a rank that rises was told with the failure, one that stays is no news."""
    story = Storyteller()
    ranks = [(100, 1.0), (200, 2.0), (200, 3.0), (100, 4.0), (100, 5.0)]
    tellings = [telling for rank, at in ranks for telling in story.of_rank("chat/slow", rank, at)]
    assert [(telling.at, telling.words) for telling in tellings] == [(4.0, "rank 100 again")]


def test_the_tally_counts_each_try_and_each_decision():
    """What happens again and again is one line that says how often."""
    tally = Tally()
    for at, content_after in ((1.0, None), (2.0, 0.2)):
        tally.add(Ended(run_of(failed(at), Try("sure", 1, at, at + 0.5)), content_after))
    assert (tally.asked, tally.answered, tally.tries, tally.failovers) == (2, 2, 4, 2)
    assert (dict(tally.served), dict(tally.failed)) == ({"chat/sure": 2}, {"chat/slow": 2})
    assert {tuple(what): times for what, times in tally.decided.items()} == {
        ("next candidate", "failover_allow_policy", "failoverPolicy.allowCategories = timeout"): 2
    }
    assert [(recent.telling.candidate, recent.times) for recent in tally.recent] == [("chat/slow", 2)]
    assert [round(time.own, 6) for time in tally.times] == [0.0, 0.0]
    assert (tally.streamed, [time.content for time in tally.times]) == (1, [None, 0.2])


def test_a_stream_that_broke_is_no_answer():
    """Whatever its caller had of it."""
    tally = Tally()
    tally.add(Ended(run_of(failed(1.0, did="stop"), ending="interrupted"), 0.2))
    assert (tally.asked, tally.answered, tally.streamed) == (1, 0, 0)


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        ("timeout", "no answer within 1 s (attemptSeconds)", "no answer in time"),
        ("timeout", "no answer within 0.8 s (firstTokenSeconds)", "no content in time"),
        ("stream_read_error", "the stream ended before it was finished", "stream broke"),
    ],
)
def test_a_failure_in_a_few_words(code, message, words):
    """A stream that has said nothing yet has its own clock, and its own end."""
    status = 200 if code == "stream_read_error" else 0
    error = ClientError(code, message, status=status or None, retryable=True)
    failure = Failure(classify(code, message, status), True, None, "candidate", "unknown", "", error)
    assert what_failed(failure) == words


@pytest.mark.parametrize(("part", "expected"), [(0.5, 3), (0.99, 5), (1.0, 5), (0.2, 1)])
def test_a_quantile_is_one_of_the_values(part, expected):
    """The smallest that so many do not exceed."""
    assert quantile([5, 1, 4, 2, 3], part) == expected


def test_a_quantile_of_nothing_is_zero():
    """A demonstration without failures has no waits."""
    assert quantile([], 0.5) == 0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.000234, "0.23 ms"), (0.0349, "35 ms"), (1.064, "1.06 s"), (0.0, "0.00 ms")]
)
def test_a_duration_has_as_many_digits_as_it_deserves(seconds, words):
    """Three of them say everything."""
    assert duration(seconds) == words


def test_a_trail_in_words():
    """Who, what, and what was decided; the rest is in the header."""
    trail = "alder;n=1;outcome=auth_error;status=401;decision=next;rule=failover_allow_policy, oak;n=1;outcome=ok"
    assert trail_in_words(trail) == "alder auth_error (next), oak ok"

"""How long an order of candidates holds, and what is drawn for it."""

from types import SimpleNamespace

from standby.runner._rank import Ranking
from standby.store import Standing


def ranking(*priorities, now=0.0, generation=7, **held):
    """Candidates `c0`, `c1` and so on, of these priorities."""
    listed = tuple(
        SimpleNamespace(id=f"c{n}", priority=priority, weight=1.0, domains=SimpleNamespace(candidate=f"c{n}"))
        for n, priority in enumerate(priorities)
    )
    return Ranking(SimpleNamespace(candidates=listed), held.get, generation, now)


def test_an_order_holds_until_a_standing_changes():
    """Each change makes a new generation."""
    made = ranking(1, 2)
    assert [made.valid(generation, 1e9) for generation in (7, 8)] == [True, False]


def test_an_order_holds_until_a_demotion_wears_off():
    """Until the first of them does; at that second it holds no more."""
    soon = Standing(demoted=100, demoted_at=10.0, demote_step=100, restore_seconds=60.0)
    late = Standing(demoted=100, demoted_at=10.0, demote_step=100, restore_seconds=90.0)
    made = ranking(1, 2, now=20.0, c0=late, c1=soon)
    assert [made.valid(7, now) for now in (69.0, 70.0)] == [True, False]


def never():
    raise AssertionError("a chance was drawn")


def test_nothing_is_drawn_for_who_has_no_equal():
    """Its turn is certain."""
    assert [candidate.id for candidate in ranking(2, 1, 3).order(never)] == ["c1", "c0", "c2"]


def test_each_draw_is_among_those_who_are_left():
    """By the weights of these alone; the one that is drawn goes out."""
    made = ranking(1, 1, 1)
    assert [candidate.id for candidate in made.order(lambda: 0.0)] == ["c0", "c1", "c2"]
    assert [candidate.id for candidate in made.order(lambda: 0.999)] == ["c2", "c1", "c0"]
    assert [candidate.id for candidate in made.order(lambda: 0.4)] == ["c1", "c0", "c2"]

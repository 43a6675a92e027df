"""What a retry budget keeps in its books."""

from standby.runner._budget import Budgets, Extra
from standby.store import RetryBudget


def test_an_extra_try_that_no_budget_bounds_costs_nothing_and_is_over():
    """It is the domain's all the same."""
    assert Budgets().take("a", "unknown", RetryBudget(enabled=False)) == Extra("a", 0, ended=True)


def test_who_has_earned_back_all_owes_nothing():
    """Nothing is kept of it."""
    budgets = Budgets()
    extra = budgets.take("a", "rejected", RetryBudget())
    budgets.end(extra, refund=False)
    assert budgets.owing
    for _ in range(5):
        budgets.succeeded(("a",))
    assert not budgets.owing

"""The configuration reference is made from the code, and is the one in the documentation."""

from pathlib import Path

from standby.lab import reference

PAGE = Path(__file__).parent.parent.parent / "docs/configuration.md"


def test_the_page_is_what_the_code_says():
    """After a change: `standby schema --markdown > docs/configuration.md`."""
    assert PAGE.read_text() == reference()


def test_every_key_has_a_meaning():
    """No row of the reference is without words."""
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert [row for row in rows if row.endswith("|  |")] == []

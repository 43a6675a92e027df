"""The tables of `docs/providers.md` are made from the code."""

from pathlib import Path

from standby.clients.dialects import ANSWERS, FEATURES
from standby.lab import features

PAGE = Path(__file__).parent.parent.parent / "docs/providers.md"
BEGIN, END = "<!-- standby features -->\n", "<!-- end -->"


def test_the_page_has_the_tables_of_the_code():
    """After a change: put what `standby features` prints between the two marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    assert before
    assert after
    assert table == features()


def test_every_feature_has_a_row():
    """Those of requests and those of answers, each with its name."""
    rows = [row.split(" | ") for row in features().splitlines() if row.startswith("| ")]
    names = [row[1].strip("`") for row in rows if len(row) == 6 and row[1].startswith("`")]
    assert names == [*(feature.name for feature in FEATURES), *ANSWERS]


def test_every_client_has_a_column_or_a_row():
    """Compatible servers, which differ from `openai` a little, say in what."""
    text = features()
    for name in ("openai", "anthropic", "gemini", "bedrock"):
        assert f"| `{name}` " in text
    for name in (
        "azure_openai",
        "groq",
        "mistral",
        "deepseek",
        "together",
        "openrouter",
        "xai",
        "fireworks",
        "ollama",
        "vllm",
    ):
        assert f"\n| `{name}` |" in text

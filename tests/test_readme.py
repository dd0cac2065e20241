"""The README's table comes from the cards, and both languages say the same commands and figures."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
TABLE = re.compile(r"(<!-- zoo table[^\n]*-->\n)(.*?)(<!-- end of the zoo table -->)", re.DOTALL)
HEADINGS = {
    README: ("network", "head", "metric", "shared", "single-task", "change", "quantized file"),
    CHINESE: ("网络", "任务头", "指标", "多任务", "单任务", "变化", "量化文件"),
}


def _cards():
    paths = sorted((ROOT / "saved_models").glob("*/card.json"))
    return [json.loads(path.read_text()) for path in paths]


def _zoo_table(headings):
    """One row per head: its metric in the shared network and alone, over the seeds, and on the
    device."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for card in _cards():
        evidence = card["evidence"]
        (file,) = (name for name in card["scores"] if re.search("int8|dynamic", name))
        for task, change in evidence["delta_m"]["by_task"].items():
            metric = change["metric"]
            shared, single = (evidence[kind][metric] for kind in ("multi_task", "single_task"))
            digits = 2 if shared["mean"] > 10 else 3
            quantized = f"{card['scores'][file][metric]:.{digits}f}, {card['exports'][file]['bytes'] / 1000:.0f} kB"
            cells = [
                f"`{card['name']}`",
                f"`{task}`",
                metric.removeprefix(f"{task}_"),
                *(f"{s['mean']:.{digits}f} ± {s['sd']:.{digits}f}" for s in (shared, single)),
                f"{change['percent']:+.1f} %",
                quantized,
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", HEADINGS, ids=lambda page: page.name)
def test_the_zoo_table_is_what_the_cards_say(page, request):
    table = _zoo_table(HEADINGS[page])
    text = page.read_text(encoding="utf-8")
    if request.config.getoption("--write-tables"):
        text = TABLE.sub(lambda match: match[1] + table + match[3], text)
        page.write_text(text, encoding="utf-8")
    assert TABLE.search(text)[2] == table


def _code(text):
    """All fenced blocks without their comments."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(language, re.sub(r"\s*#.*", "", body)) for language, body in blocks]


def test_both_languages_have_the_same_commands_and_code():
    english, chinese = (_code(page.read_text(encoding="utf-8")) for page in HEADINGS)
    assert len(english) >= 5 and english == chinese


def test_both_languages_have_the_same_sections_links_and_figures():
    english, chinese = (page.read_text(encoding="utf-8") for page in HEADINGS)
    assert re.findall(r"^#+", english, re.MULTILINE) == re.findall(r"^#+", chinese, re.MULTILINE)
    links = [sorted(set(re.findall(r"\]\(([^)]+)\)", text))) for text in (english, chinese)]
    assert set(links[0]) ^ set(links[1]) == {"README.md", "README.zh-CN.md"}
    for link in set(links[0] + links[1]):
        assert (ROOT / link).exists(), link
    prose = [
        re.sub(r"```.*?```", "", TABLE.sub("", text), flags=re.DOTALL)
        for text in (english, chinese)
    ]
    counts = [sorted(re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w.])", text)) for text in prose]
    assert counts[0] == counts[1]

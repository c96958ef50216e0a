import json
import re
from pathlib import Path

import pytest

from tests.reporting.conftest import Page, quick_page


def test_a_verdict_beside_a_run_heads_its_page(run_copy: Path) -> None:
    """Not what lies in the folder that holds it, which is of other runs."""
    verdict = {
        "text": "91.3 % → 93.0 % <b>",
        "lines": ["On 713 test images.", "3 seeds."],
        "next": "classmates export",
    }
    (run_copy / "verdict.json").write_text(json.dumps(verdict))
    text = quick_page(run_copy)
    assert text.index('id="verdict"') < text.index('class="headline"')
    assert "91.3 % → 93.0 % <b> On 713 test images. 3 seeds. Next: classmates export" in Page(text).text
    (run_copy / "verdict.json").rename(run_copy.parent / "verdict.json")
    assert 'id="verdict"' not in quick_page(run_copy)


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "Expecting"), ("[]", "it has no text"), ('{"text": "", "lines": 3}', "its lines are 3")],
)
def test_a_damaged_verdict_is_said_and_stops_no_page(run_copy: Path, content: str, said: str) -> None:
    (run_copy / "verdict.json").write_text(content)
    assert re.search(rf"The verdict in .*verdict.json cannot be read: {said}", Page(quick_page(run_copy)).text)

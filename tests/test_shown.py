"""Results in Python and in notebooks: short, whole, and never as code of a page."""

from html.parser import HTMLParser

import pytest

import classmates
from classmates._shown import Shown
from classmates.comparisons.improvement import Improvement
from classmates.evaluation.scores import StudentScores
from classmates.experiments.compare import Comparison
from classmates.experiments.preview import Plan
from classmates.experiments.sweep import Sweep
from classmates.inspection.inspecting import Inspection
from classmates.networks.building.describe import Description


class Said(Shown):
    def __str__(self):
        return "first <b>line</b>\nsecond & last"


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_a_line_in_python_and_all_of_it_escaped_in_a_notebook():
    assert repr(Said()) == "<Said: first <b>line</b>>"
    page = Tags(Said()._repr_html_())
    assert page.tags == ["pre"]
    assert page.text == str(Said())


@pytest.mark.parametrize(
    "result", [classmates.Result, Comparison, Improvement, Plan, Sweep, StudentScores, Inspection, Description]
)
def test_every_result_is_shown_like_that(result):
    assert result.__repr__ is Shown.__repr__
    assert result._repr_html_ is Shown._repr_html_
    assert result.__str__ is not object.__str__


def test_what_a_command_returns_is_short():
    for found in (classmates.describe("resnet8"), classmates.list("datasets")):
        assert repr(found).count("\n") == 0
        assert len(repr(found)) < 120

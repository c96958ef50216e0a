"""The model card: what the Hub reads of it, and that every value is the run's own."""

import json
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from classmates.reporting.model_card import CARD_FILE, model_card, plain, public, write_model_card
from classmates.runs.record import RunRecord


@pytest.fixture
def run(run_copy):
    card = {"model": "linear", "class_names": ["cat|dog", "<b>"], "input_shape": [1, 8, 8], "preparation": ["a step"]}
    (run_copy / "student.json").write_text(json.dumps(card))
    return run_copy


def record_of(run):
    return RunRecord.from_json((run / "result.json").read_text())


def with_record(run, **changes):
    (run / "result.json").write_text(replace(record_of(run), **changes).to_json())


def test_the_hub_reads_the_scores_of_the_record(run):
    write_model_card(run)
    card, record = ModelCard.load(run / CARD_FILE), record_of(run)
    assert isinstance(card.data, ModelCardData)
    assert (card.data.library_name, card.data.pipeline_tag) == ("classmates", "image-classification")
    found = {result.metric_type: result for result in card.data.eval_results}
    assert {name: one.metric_value for name, one in found.items()} == {
        name: metric.value for name, metric in record.test["student"].items()
    }
    assert {(one.dataset_name, one.dataset_split) for one in found.values()} == {("digits", "test")}
    assert "license" not in card.data.to_dict()
    assert yaml.safe_load(card.data.to_yaml())["model-index"][0]["name"] == record.name


def test_the_page_says_scores_with_intervals_training_calibration_and_limits(run):
    text, record = model_card(run), record_of(run)
    for name, metric in record.test["student"].items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {record.protocol.metrics[name].name} "))
        assert record.protocol.metrics[name].text(metric.value).replace("%", " %") in row
    top1 = record.headline()
    assert f"| {100 * top1.low:.2f} to {100 * top1.high:.2f} % |" in text
    for part in (
        "797 images",
        "seed 0",
        "| temperature | 3.0 |",
        "500 images of digits",
        "1. a step",
        "## Calibration",
    ):
        assert part in text
    assert "linear classifiers stand in for networks" in text
    assert r"cat\|dog" in text
    assert "<b>" not in text


@pytest.mark.parametrize(
    ("model", "output", "command", "argument", "said"),
    [
        ("resnet8", "logits", "hf:OWNER/NAME IMAGES\n", "", "## Use\n\n```bash"),
        ("resnet8", "embedding", "hf:OWNER/NAME IMAGES --support FOLDER\n", "", "## Use\n\n```bash"),
        ("/home/me/net.py:Net", "logits", "IMAGES --trust_code true\n", ", trust_code=True", "is net.py:Net, a"),
        ("net.py:a", "embedding", "--support FOLDER --trust_code true\n", ", trust_code=True", "is net.py:a, a"),
        (None, "logits", None, ", network=NETWORK", "no name can rebuild"),
    ],
)
def test_it_says_what_loads_the_student(run, model, output, command, argument, said):
    card = json.loads((run / "student.json").read_text())
    (run / "student.json").write_text(json.dumps(card | {"model": model, "output": output}))
    text = model_card(run)
    assert said in text
    assert f'load_student("hf:OWNER/NAME"{argument})\n' in text
    assert command in text if command else "classmates predict" not in text
    assert ("--trust_code" in text) == bool(model and ".py" in model)


def test_calibration_is_that_of_the_students_card(run):
    card = json.loads((run / "student.json").read_text())
    plain_ones = "Probabilities are the softmax of the logits as they are"
    assert f"{plain_ones}.\n" in model_card(run)
    (run / "student.json").write_text(json.dumps({**card, "temperature": 1.53}))
    divided = "with `--calibrated` (in Python `calibrated=True`) of the logits divided by 1.53"
    assert f"{plain_ones}; {divided}, as fitted on validation images.\n" in model_card(run)
    (run / "student.json").write_text(json.dumps({**card, "output": "embedding"}))
    text = model_card(run)
    assert "## Calibration" not in text
    assert "pipeline_tag: image-feature-extraction" in text
    assert "still given one of them" not in text


def test_a_run_whose_test_images_were_not_looked_at_is_judged_by_validation(run):
    with_record(run, test={})
    text = model_card(run)
    record = record_of(run)
    assert "Test images were not looked at" in text
    assert ModelCard(text).data.eval_results[0].dataset_split == "validation"
    assert ModelCard(text).data.eval_results[0].metric_value == (
        record.validation.last.scores["student"][ModelCard(text).data.eval_results[0].metric_type].value
    )
    with_record(run, validation=None)
    assert ModelCard(model_card(run)).data.eval_results is None


def test_a_run_that_was_judged_by_nothing_says_so(run):
    with_record(run, test={}, validation=None)
    text = model_card(run)
    assert "## Scores\n\nNot judged: the run had no validation images, and its test images were not looked" in text
    assert "95 % interval" not in text
    assert "intervals are those" not in text
    assert "`classmates improve` and `classmates compare` tell whether the method helped" in text


def test_warnings_come_first_and_data_of_the_hub_are_named(run):
    with_record(run, warnings=["the student is no better than chance."], config={"data": "hf:owner/birds:small"})
    text = model_card(run)
    assert text.index("**Warning**: the student is no better than chance.") < text.index("## Use")
    assert ModelCard(text).data.datasets == ["owner/birds"]


def test_no_folder_of_a_persons_machine_is_told():
    given = {"data": "/home/somebody/photos", "list": ["/a/b.pt", 3], "relative": "photos/birds", "none": None}
    given["note"] = "left out: 2, such as '/home/somebody/a b.png', see https://example.org/a/b"
    assert public(given) == {"data": "photos", "list": ["b.pt", 3], "relative": "photos/birds", "none": None} | {
        "note": "left out: 2, such as 'a b.png', see https://example.org/a/b"
    }


def test_folders_with_spaces_in_their_names_are_not_told_either(run):
    folder = "/home/John Doe/my photos"
    notes = [f"cannot read the image {folder}/cat/a b.png", f"{folder} was read", f"see https://x.org{folder}/y"]
    with_record(run, notes=notes, config={"data": folder})
    text = model_card(run).replace("\\", "")
    assert "- cannot read the image cat/a b.png" in text
    assert "- my photos was read" in text
    assert f"- see https://x.org{folder}/y" in text  # an address, though it looks alike
    assert public("~/photos/cats") == "cats"
    assert public("in ~/photos/cats now") == "in cats now"


def test_what_improve_has_found_stands_in_the_card(run):
    assert "With no other method" in model_card(run)
    (run / "verdict.json").write_text(json.dumps({"lines": ["MCL helped: +1.5 points"]}))
    assert "- MCL helped: +1.5 points" in model_card(run)


@pytest.mark.parametrize("text", ["a_b*c*", "[x](y)", "<script>", "a|b\nc", "`code`", "# head", "&lt;"])
def test_markdown_shows_texts_as_they_are(text):
    shown = plain(text)
    assert shown.replace("\\", "") == " ".join(text.split())
    assert "\n" not in shown
    assert "<" not in shown.replace(r"\<", "")

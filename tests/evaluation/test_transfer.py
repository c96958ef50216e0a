import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.exceptions import ConvergenceWarning

from classmates.data import load
from classmates.errors import UserError
from classmates.evaluation import transfer as module
from classmates.evaluation.transfer import (
    STRENGTHS,
    TEMPERATURE,
    Features,
    best_linear,
    linear_classifier,
    log_probabilities,
    nearest_classes,
    transfer,
)
from classmates.runs.student import load_embedder, read_card
from classmates.training.train import train

QUICK = {"epochs": 1, "batch_size": 50, "accelerator": "cpu", "loggers": (), "report": False, "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A student of 400 digits."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(**QUICK | {"epochs": 4}, train_size=400, out=out).folder


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """Images of stripes across, up and down, and of none, which no digit is: 3 classes, 40 files each."""
    root = tmp_path_factory.mktemp("data") / "stripes"
    draw = np.random.default_rng(0)
    for name in ("across", "down", "none"):
        (root / name).mkdir(parents=True)
        for number in range(40):
            pixels = draw.integers(0, 120, (8, 8))
            start = draw.integers(0, 2)
            if name == "across":
                pixels[start::2] += 130
            elif name == "down":
                pixels[:, start::2] += 130
            Image.fromarray(pixels.astype("uint8")).save(root / name / f"{number}.png")
    return root


def blobs(count, classes=3, dimensions=5, spread=0.3, seed=0):
    """Features around a centre for each class."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dimensions))
    labels = np.arange(count) % classes
    return Features(centres[labels] + spread * draw.normal(size=(count, dimensions)), labels)


def embedded(run, images, part):
    """The student's embeddings of a part of images that are as large as its own."""
    student, card = load_embedder(run)
    mean, std = (torch.tensor(values)[:, None, None] for values in (card.mean, card.std))
    with torch.no_grad():
        return student((part.images.permute(0, 3, 1, 2) / 255 - mean) / std)


# The whole


def test_features_of_a_student_tell_classes_that_are_new_to_it(run, stripes):
    scores = transfer(run, stripes, neighbours=5, accelerator="cpu")
    assert set(scores) == {"linear", "nearest"}
    for found in scores.values():
        top1 = found["top1"]
        assert top1.count == 24  # a fifth is the test part
        assert top1.low < top1.value < top1.high or top1.value == 1
        assert top1.value > 0.6  # of three equal classes
    assert scores.chance == pytest.approx(1 / 3)
    assert scores.images == {"train": 86, "val": 10, "test": 24}
    assert scores.strength in STRENGTHS
    assert "nll" in scores["linear"]
    assert set(scores["nearest"]) == {"top1"}


def test_the_features_are_the_embeddings_of_images_prepared_as_in_training(run, stripes, monkeypatch):
    seen = {}

    def kept(known, values, neighbours):
        seen.update(known=known, values=values)
        return np.zeros(len(values), int)

    monkeypatch.setattr(module, "nearest_classes", kept)
    transfer(run, stripes, accelerator="cpu", batch_size=7)
    images = load(stripes, image_size=8, channels=1)
    assert images.mean != read_card(run).mean
    for part, found in ((images.train, seen["known"].values), (images.test, seen["values"])):
        assert torch.from_numpy(found).float().allclose(embedded(run, images, part), atol=1e-5)
    assert seen["known"].labels.tolist() == images.train.labels.tolist()


def test_the_penalty_is_chosen_on_validation_images(run, stripes, monkeypatch):
    given = []

    def noted(train, val):
        given.extend((train, val))
        return best_linear(train, val)

    monkeypatch.setattr(module, "best_linear", noted)
    transfer(run, stripes, neighbours=5, accelerator="cpu")
    images = load(stripes, image_size=8, channels=1)
    for part, found in zip((images.train, images.val), given, strict=True):
        assert found.labels.tolist() == part.labels.tolist()
        assert torch.from_numpy(found.values).float().allclose(embedded(run, images, part), atol=1e-5)


def test_a_smaller_training_set_is_all_that_is_learnt_from(run, stripes):
    scores = transfer(run, stripes, train_size=30, neighbours=5, accelerator="cpu")
    assert scores.images == {"train": 30, "val": 10, "test": 24}
    assert "30 training images" in str(scores)


def test_equal_calls_give_equal_scores_and_another_seed_other_images(run, stripes):
    call = {"train_size": 30, "neighbours": 3, "accelerator": "cpu"}
    first = transfer(run, stripes, **call).to_json()
    assert transfer(run, stripes, **call).to_json() == first
    assert transfer(run, stripes, seed=1, **call).to_json() != first


def test_scores_are_a_table_as_text_and_whole_in_a_file(run, stripes, tmp_path):
    file = tmp_path / "scores.json"
    scores = transfer(run, stripes, neighbours=5, accelerator="cpu", out=file)
    text = str(scores)
    heads, linear, nearest, chance = text.splitlines()[:4]
    assert heads.split() == ["24", "test", "images", "top-1", "95", "%", "interval", "NLL", "Brier", "ECE"]
    assert linear.startswith("linear classifier")
    assert f"{scores['linear']['top1'].value:.2%}" in linear
    assert nearest.startswith("5 nearest images")
    assert chance.split() == ["always", "the", "commonest", "33.33%", "-", "-", "-"]
    assert max(map(len, text.splitlines())) <= 80
    assert scores.headline == f"top-1 accuracy of a linear classifier {scores['linear']['top1'].value:.2%}"
    kept = json.loads(file.read_text())
    assert kept["linear"]["top1"]["value"] == scores["linear"]["top1"].value
    assert kept["nearest"]["top1"]["count"] == 24
    assert (kept["neighbours"], kept["features"], kept["strength"]) == (5, scores.features, scores.strength)
    assert kept["images"] == scores.images


def test_the_runs_own_data_are_called_so(run, capsys):
    transfer(run, "digits", train_size=100, accelerator="cpu")
    assert "the student was trained on 'digits'" in capsys.readouterr().err


def test_other_labels_of_the_same_images_can_be_asked_for(run, stripes, tmp_path):
    table = ["file,kind,half"]
    for number, path in enumerate(sorted(stripes.glob("*/*.png"))):
        table.append(f"{path.relative_to(stripes)},{path.parent.name},{'left' if number % 2 else 'right'}")
    (tmp_path / "labels.csv").write_text("\n".join(table))
    call = {"data": tmp_path / "labels.csv", "data_dir": stripes, "neighbours": 5, "accelerator": "cpu"}
    by_kind, by_half = (transfer(run, label=label, **call) for label in ("kind", "half"))
    assert by_kind["linear"]["top1"].value > by_half["linear"]["top1"].value


def test_a_network_that_was_given_as_an_object_is_judged_by_its_embedding(stripes, tiny_network, tmp_path):
    run = train(model=tiny_network(10, in_chans=1), **QUICK, train_size=100, out=tmp_path / "run").folder
    with pytest.raises(UserError, match="network=my_module"):
        transfer(run, stripes, accelerator="cpu")
    scores = transfer(run, stripes, neighbours=5, accelerator="cpu", network=tiny_network(10, in_chans=1))
    assert scores.features == 10  # the channels of the last stage


# The linear classifier


def test_the_linear_classifier_is_logistic_regression_on_standardised_features():
    """Against the gradient of its objective, Σ nll + |W|² / 2C, which is 0 where it is least."""
    known, strength = blobs(90), 0.1
    fitted = linear_classifier(known, strength)
    scaled = (known.values - known.values.mean(0)) / known.values.std(0)
    weights = torch.tensor(fitted[-1].coef_, requires_grad=True)
    bias = torch.tensor(fitted[-1].intercept_, requires_grad=True)
    logits = torch.from_numpy(scaled) @ weights.T + bias
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(known.labels), reduction="sum")
    (loss + weights.square().sum() / (2 * strength)).backward()
    assert weights.grad.abs().max() < 0.05
    assert bias.grad.abs().max() < 0.05
    assert np.allclose(fitted.predict_log_proba(known.values), logits.log_softmax(1).detach().numpy())


def test_the_scale_of_a_network_changes_nothing():
    known, new = blobs(60), blobs(30, seed=1)
    scale, shift = np.array([1e-3, 1.0, 50.0, 7.0, 2.0]), 4.0
    plain, strength = best_linear(known, new)
    other, its = best_linear(
        Features(known.values * scale + shift, known.labels), Features(new.values * scale + shift, new.labels)
    )
    assert its == strength
    assert np.allclose(
        other.predict_log_proba(new.values * scale + shift), plain.predict_log_proba(new.values), atol=1e-4
    )


def test_validation_chooses_the_penalty():
    """Of features that say nothing the strongest penalty is the best; of clear ones a weak one."""
    draw = np.random.default_rng(0)
    idle = [Features(draw.normal(size=(60, 30)), np.arange(60) % 3) for _ in range(2)]
    assert best_linear(*idle)[1] == min(STRENGTHS)
    assert best_linear(blobs(60, spread=0.1), blobs(60, spread=0.1, seed=1))[1] == max(STRENGTHS)


def test_the_chosen_one_makes_validation_images_most_likely_of_all():
    known, held_out = blobs(60, spread=1.5), blobs(300, spread=1.5, seed=1)
    _, strength = best_linear(known, held_out)
    rows = np.arange(len(held_out.labels))
    likely = [
        linear_classifier(known, each).predict_log_proba(held_out.values)[rows, held_out.labels].mean()
        for each in STRENGTHS
    ]
    assert STRENGTHS[int(np.argmax(likely))] == strength


def test_validation_images_may_lack_a_class():
    known, held_out = blobs(60), blobs(20)
    some = held_out.labels != 2
    classifier, _ = best_linear(known, Features(held_out.values[some], held_out.labels[some]))
    assert classifier.predict_log_proba(held_out.values).shape == (20, 3)


def test_a_fit_that_came_to_no_end_is_told(monkeypatch, capsys):
    monkeypatch.setattr(module, "ITERATIONS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)  # no warning of the library's comes through
        linear_classifier(blobs(60), 1.0)
    assert "C = 1 had not converged after 1 steps" in capsys.readouterr().err


# The nearest neighbours


@pytest.mark.parametrize("neighbours", [1, 4, 60])
def test_the_nearest_vote_by_their_similarity(neighbours):
    known, new = blobs(60, spread=1.0), blobs(25, spread=1.0, seed=1)
    expected = []
    for value in new.values:
        similar = [value @ other / np.linalg.norm(value) / np.linalg.norm(other) for other in known.values]
        nearest = sorted(range(60), key=lambda row: -similar[row])[:neighbours]
        votes = [
            sum(np.exp(similar[row] / TEMPERATURE) for row in nearest if known.labels[row] == k) for k in range(3)
        ]
        expected.append(int(np.argmax(votes)))
    assert nearest_classes(known, new.values, neighbours).tolist() == expected


def test_the_length_of_a_feature_changes_no_vote():
    known, new = blobs(60, spread=1.0), blobs(25, spread=1.0, seed=1)
    lengths = np.random.default_rng(5).uniform(0.1, 10, size=(60, 1))
    longer = Features(known.values * lengths, known.labels)
    assert nearest_classes(longer, new.values, 7).tolist() == nearest_classes(known, new.values, 7).tolist()


# What cannot be


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, "neighbours is 0"),
        ({"neighbours": 87}, "neighbours is 87, and there are 86 training images"),
        ({"val_fraction": 0}, "no validation images"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"train_size": 2}, "train_size"),
        ({"on_bad_image": "ignore"}, "on_bad_image"),
        ({"label": "kind"}, "label"),
        ({"accelerator": "abacus"}, "accelerator 'abacus'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(run, stripes, options, message):
    with pytest.raises(UserError, match=message):
        transfer(run, stripes, **{"accelerator": "cpu"} | options)


def test_a_folder_without_a_student_is_refused(stripes, tmp_path):
    with pytest.raises(UserError, match="no trained student"):
        transfer(tmp_path, stripes)


def test_a_file_that_cannot_be_written_is_refused_first(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"scores\.json.* cannot be written"):
        transfer(run, "no_such_data", out=tmp_path / "file" / "scores.json")


def test_features_that_are_not_finite_are_refused(run, stripes):
    huge = run.parent / "huge"
    shutil.copytree(run, huge)
    weights = {name: value * 1e30 for name, value in load_file(huge / "student.safetensors").items()}
    save_file(weights, huge / "student.safetensors")
    with pytest.raises(UserError, match="not finite of 86 of 86 images of the train part"):
        transfer(huge, stripes, accelerator="cpu")


@pytest.mark.parametrize("classes", [2, 3])
def test_a_class_that_is_all_but_impossible_is_finite(classes):
    known = Features(np.arange(3.0 * classes)[:, None] ** 3, np.arange(3 * classes) // 3)
    linear = linear_classifier(known, 1e6)
    values = np.array([[-1e6], [0.0], [1e6]])
    found = log_probabilities(linear, values)
    assert np.isfinite(found).all()
    assert found.min() < -800  # whose probability is 0 in double precision
    np.testing.assert_allclose(np.exp(found), linear.predict_proba(values), atol=1e-12)

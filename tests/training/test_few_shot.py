"""Runs of few-shot learning: what they leave, how they go on, and what is judged again."""

import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from classmates import cli
from classmates.errors import UserError
from classmates.evaluation.evaluate import evaluate
from classmates.losses.prototypes import episode_logits
from classmates.methods import DML, MCL
from classmates.runs.folder import read_record
from classmates.runs.reading import read_run
from classmates.runs.student import load_student
from classmates.tasks.episodes import EpisodeProtocol, RunningEpisodes
from classmates.tasks.few_shot import FewShot
from classmates.training.train import train
from tests.fixtures.drawings import drawings
from tests.training.test_resume import Interruption, StopInEpoch, Witness, assert_same_runs

pytestmark = pytest.mark.long

TASK = FewShot(way=4, shot=2, queries=3, episodes=5, eval_way=2, eval_queries=6, eval_episodes=40)
QUICK = {
    "data": "digits",
    "model": "resnet8",
    "train_size": 120,
    "epochs": 2,
    "batch_size": 20,
    "task": TASK,
    "accelerator": "cpu",
    "precision": "32-true",
    "memory_format": "contiguous",
    "loggers": (),
    "report": False,
    "progress": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(**QUICK, out=tmp_path_factory.mktemp("runs") / "one", method=DML, keep="best").folder


def test_a_run_has_every_network_its_episodes_and_their_hash(run):
    found = read_run(run)
    record, evaluation = found.record, found.evaluation
    assert record.test.keys() == {"student", "peer1", "ensemble"}
    assert record.kept == "best"
    protocol = TASK.protocol
    labels = torch.tensor(evaluation.labels)
    assert record.drawn == {"test": protocol.fingerprint(labels)}
    assert record.protocol.settings["shot"] == 2
    assert found.class_names == ["6", "7"]
    embeddings = torch.tensor(evaluation.logits)
    outcomes = protocol.outcomes(embeddings, labels)
    np.testing.assert_allclose(evaluation.more["outcomes/student"], outcomes)
    assert record.headline().value == pytest.approx(outcomes.mean().item())
    assert record.headline().count == 40
    assert len(evaluation.wrong_images) == 2 * 2 * (2 + 6)
    best = found.metrics["val/student/loss"].idxmin() + 1
    assert record.validation.best.epoch == best


def test_the_epoch_of_the_lowest_loss_is_kept_and_the_last_one_is_named_beside_it(tmp_path, monkeypatch):
    """With patience 2 the fourth epoch is the last; accuracy, which does not choose, is best in the third."""
    scores = iter([(1.0, 0.5), (0.5, 0.6), (0.7, 0.9), (0.6, 0.7), (0.1, 1.0)])
    monkeypatch.setattr(
        RunningEpisodes, "compute", lambda _: dict(zip(("loss", "accuracy"), next(scores), strict=True))
    )
    result = train(**{**QUICK, "epochs": 5}, out=tmp_path / "run", keep="best", patience=2)
    record = result.record
    assert record.stopped_early
    assert (record.validation.best.epoch, record.validation.last.epoch) == (2, 4)
    assert record.test != record.test_last
    assert record.test.keys() == record.test_last.keys()
    assert all(f"test, epoch {epoch} " in str(result) for epoch in (2, 4))
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=False)
    assert best["epoch"] == 1
    scored = evaluate(tmp_path / "run", accelerator="cpu")
    assert scored["accuracy"].value == record.test["student"]["accuracy"].value


def test_the_deployed_student_returns_embeddings_and_is_scored_as_before(run):
    student, card = load_student(run)
    assert card.output == "embedding"
    assert student(torch.zeros(3, *card.input_shape)).shape == (3, 64)
    record = read_record(run / "result.json")
    scores = evaluate(run, accelerator="cpu")
    assert scores["accuracy"].value == record.headline().value
    assert scores.drawn == record.drawn["test"]
    # One episode at a time, each with forwards of its own.
    found = read_run(run).evaluation
    drawn = torch.tensor(found.more["episodes"])
    images = torch.tensor(found.wrong_images).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(card.mean).view(-1, 1, 1)) / torch.tensor(card.std).view(-1, 1, 1)
    with torch.no_grad():
        for number, episode in enumerate(images.split(2 * 8)):
            logits = episode_logits(student(episode).view(1, 2, 8, -1), 2)[0]
            right = (logits.argmax(1) == torch.arange(2).repeat_interleave(6)).float().mean()
            assert found.more["outcomes/student"][number] == pytest.approx(right.item())
    assert drawn.shape == (40, 2, 8)


def test_networks_are_never_judged_in_training_mode(tmp_path, monkeypatch):
    modes = []
    judged = EpisodeProtocol.predictions

    def spy(self, method, outputs):
        modes.append(method.training)
        return judged(self, method, outputs)

    monkeypatch.setattr(EpisodeProtocol, "predictions", spy)
    train(**{**QUICK, "epochs": 1}, out=tmp_path / "run")
    assert modes
    assert not any(modes)


def test_a_run_broken_off_in_an_epoch_goes_on_with_the_same_episodes(tmp_path):
    settings = {
        **QUICK,
        "epochs": 4,
        "method": partial(MCL, peers=2, num_negatives=8, dimension=8),
        "checkpoint_steps": 1,
    }
    whole, rest = Witness(), Witness()
    train(**settings, out=tmp_path / "whole", callbacks=[whole])
    with pytest.raises(Interruption):
        train(**settings, out=tmp_path / "broken", callbacks=[StopInEpoch(1, batch=2)])
    train(**settings, out=tmp_path / "broken", resume=True, callbacks=[rest])
    assert rest.seen == {step: seen for step, seen in whole.seen.items() if step in rest.seen}
    assert min(rest.seen) > 5
    assert_same_runs(tmp_path / "whole", tmp_path / "broken")


SCRIPT = """
    from pathlib import Path
    import torch
    from lightning.pytorch.callbacks import Callback
    from classmates import FewShot, train

    class Seen(Callback):
        def __init__(self):
            self.batches = []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.batches.append(batch.indices.tolist())

        def on_train_end(self, trainer, module):
            state = {"batches": self.batches, "weight": next(module.method.student().parameters()).data}
            torch.save(state, Path(FOLDER) / f"rank{trainer.global_rank}.pt")

    if __name__ == "__main__":
        task = FewShot(way=4, shot=2, queries=3, episodes=6, eval_way=2, eval_queries=6, eval_episodes=40)
        train(data="digits", model="resnet8", task=task, train_size=120, batch_size=40, epochs=1, accelerator="cpu",
              devices=2, strategy="ddp", precision="32-true", memory_format="contiguous", loggers=(), report=False,
              progress=False, out=Path(FOLDER) / "run", callbacks=[Seen()])
"""


def test_two_processes_take_whole_episodes_in_turn(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).replace("FOLDER", repr(str(tmp_path))))
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ended.returncode == 0, ended.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert [len(batch) for batch in first["batches"] + second["batches"]] == [20] * 6
    assert not {tuple(batch) for batch in first["batches"]} & {tuple(batch) for batch in second["batches"]}
    assert torch.equal(first["weight"], second["weight"])
    assert read_record(tmp_path / "run" / "result.json").test["student"]["accuracy"].count == 40


def write(folder, split):
    for number, (pixels, label) in enumerate(zip(split.images, split.labels.tolist(), strict=True)):
        target = folder / split.class_names[label]
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[:, :, 0].numpy()).save(target / f"{number}.png")


def test_a_student_that_was_trained_to_classify_is_judged_on_new_classes(tmp_path):
    data = drawings(train=3, val=2, test=3, each=10)
    write(tmp_path / "known" / "train", data.train)
    for part in ("train", "val", "test"):
        write(tmp_path / "new" / part, getattr(drawings(2, 2, 3, 10, seed=1), part))
    quick = {name: value for name, value in QUICK.items() if name not in ("data", "train_size", "task")}
    run = train(str(tmp_path / "known" / "train"), **quick, val_fraction=0.2, out=tmp_path / "run").folder
    judging = FewShot(shot=2, eval_way=3, eval_queries=5, eval_episodes=50)
    renamed = tmp_path / "renamed"
    write(renamed / "train", drawings(2, 2, 3, 10, seed=2).val)
    write(renamed / "val", data.train)
    write(renamed / "test", data.test)
    with pytest.raises(UserError, match="the student was trained on 'train0', 'train1', 'train2' of the val images"):
        evaluate(run, renamed, task=judging, split="val", accelerator="cpu")
    new = tmp_path / "new"
    for part in ("train", "val", "test"):  # other names than those that the student knows
        for number, folder in enumerate(sorted((new / part).iterdir())):
            folder.rename(new / part / f"{part}-new-{number}")
    scores = evaluate(run, new, task=judging, accelerator="cpu", out=tmp_path / "scores.json")
    assert 1 / 3 < scores["accuracy"].value <= 1
    assert scores["accuracy"].count == 50
    assert '"drawn"' in (tmp_path / "scores.json").read_text()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--task.way", "7"], "the training images of 'digits' have 6 classes, and an episode way=7"),
        (["--task.way", "4"], "the validation images of 'digits' have 2 classes, and an episode eval_way=5"),
        (["--task.way", "1"], "way=1"),
        (["--task.shot", "0"], "shot=0"),
        (["--task.sho", "2"], "unknown option of FewShot 'sho': did you mean 'shot'?"),
        (["--task.way", "4", "--task.eval_way", "2", "--method", "CORSD"], "need different batches"),
        (["--task.way", "4", "--task.eval_way", "2", "--augmentation.mixup", "0.2"], "each of one class"),
        (
            ["--task.way", "4", "--task.eval_way", "2", "--balanced_sampling"],
            "show every class equally often already",
        ),
        (["--task.way", "4", "--task.eval_way", "2", "--class_weights", "balanced"], "does not weigh classes"),
        (["--task.way", "4", "--task.eval_way", "2", "--batch_size", "30"], "a multiple of 64, 64 or more"),
        (["--task.way", "4", "--task.eval_way", "2", "--keep", "best", "--val_fraction", "0"], "keep='best'"),
        (["--task.way", "4", "--task", "few_shot"], "--task is given twice"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(tmp_path, capsys, flags, said):
    out = tmp_path / "run"
    typed = ["train", "--data", "digits", "--model", "resnet8", "--task", "few_shot", "--accelerator", "cpu"]
    typed += ["--precision", "32-true", "--memory_format", "contiguous"]
    assert cli.main([*typed, *flags, "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_an_unknown_task_is_told_with_the_nearest(capsys):
    assert cli.main(["train", "--data", "digits", "--model", "resnet8", "--task", "few_short"]) == 2
    assert "unknown task 'few_short': did you mean 'few_shot'" in capsys.readouterr().err


def test_options_of_training_are_refused_where_nothing_is_trained(run, capsys):
    typed = ["evaluate", str(run), "--task", "few_shot", "--task.way", "3"]
    assert cli.main(typed) == 2
    assert "task.way is for training: it changes nothing here" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run), "--task.shot", "3"]) == 2
    assert "say which with --task" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run), "--task", "classification"]) == 2
    assert "returns embeddings and has no classifier" in capsys.readouterr().err

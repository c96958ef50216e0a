"""What a run says of its student is of the networks that are kept."""

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from classmates.methods import DeepSupervision
from classmates.tasks.metrics import score
from classmates.training import result as result_module
from classmates.training.train import train
from tests.fixtures.class_folders import write_classes


class SpoilTheLast(Callback):
    """Leaves the last epoch's student without a classifier, so that an earlier one was best."""

    @torch.no_grad()
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch + 1 == trainer.max_epochs:
            module.method.student().fc.weight.zero_()


@pytest.mark.parametrize("keep", ["best", "last"])
def test_exits_are_tuned_on_the_networks_that_are_tested(keep, small_train, tmp_path, monkeypatch):
    tuned_on, early_exits = [], result_module.early_exits

    def noted(method, validation, test):
        tuned_on.append(validation)
        return early_exits(method, validation, test)

    monkeypatch.setattr(result_module, "early_exits", noted)
    settings = {"method": DeepSupervision, "epochs": 4, "keep": keep, "callbacks": [SpoilTheLast()]}
    record = small_train(out=tmp_path / "run", **settings).record
    last, best = (one.scores["student"]["top1"].value for one in (record.validation.last, record.validation.best))
    assert record.validation.best.epoch < 4
    assert last < best
    found = score(tuned_on[0].logits["student"], tuned_on[0].labels)["top1"].value
    assert found == (best if keep == "best" else last)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_without_a_test_the_validation_scores_of_the_kept_networks_are_told(keep, small_train, tmp_path):
    settings = {"epochs": 4, "keep": keep, "test": False, "lr": 0.2, "callbacks": [SpoilTheLast()]}
    result = small_train(out=tmp_path / "run", **settings)
    kept = result.record.validation.best if keep == "best" else result.record.validation.last
    where = f"validation, epoch {kept.epoch}" if keep == "best" else "validation"
    assert result.record.protocol.table(where, kept.scores) in str(result)
    assert result.record.useless is (keep == "last")


def test_the_report_says_which_files_the_student_is_wrong_about(tmp_path):
    """The same photos in both classes, so that of each pair one at least is wrong."""
    write_classes(tmp_path / "photos" / "train", count=6)
    write_classes(tmp_path / "photos" / "test", classes=("cat", "dog"), count=3)
    how = {"epochs": 1, "batch_size": 4, "val_fraction": 0, "accelerator": "cpu", "num_workers": 0, "progress": False}
    run = train(tmp_path / "photos", "resnet8", out=tmp_path / "run", loggers=(), **how).folder
    with np.load(run / "evaluation.npz") as arrays:
        wrong = (arrays["logits/student"].argmax(1) != arrays["labels"]).sum()
        files, kinds = arrays["wrong_files"].tolist(), arrays["labels"][arrays["wrong_rows"]]
    assert len(files) == wrong > 0
    assert set(files) <= {f"test/{kind}/{number}.png" for kind in ("cat", "dog") for number in range(3)}
    assert [file.split("/")[1] for file in files] == [("cat", "dog")[kind] for kind in kinds]
    page = (run / "report.html").read_text("utf-8")
    assert all(f'<bdi title="{file}">{file}</bdi>' in page for file in files)

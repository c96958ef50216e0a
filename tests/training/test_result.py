"""What a run says of its student is of the networks that are kept."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from classmates.methods import DeepSupervision
from classmates.tasks.metrics import score
from classmates.training import result as result_module


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

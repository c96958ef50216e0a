import pytest

from classmates.errors import UserError
from classmates.training.loggers import LOGGERS


def test_tensorboard_gets_what_metrics_csv_gets(small_train, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    small_train(out=tmp_path / "run", epochs=1, loggers=["tensorboard"])
    columns = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    written = events.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload().Tags()["scalars"]
    assert set(columns) - {"step"} <= set(written)


def test_loggers_get_the_settings_and_the_scores_on_test_images(small_train, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = small_train(out=tmp_path / "run", epochs=1, loggers=["tensorboard"])
    read = events.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    settings = read.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert all(name.encode() in settings for name in ("epochs", "method/class_path", "train_size"))
    (score,) = read.Scalars("test/student/top1")
    assert score.value == pytest.approx(result.record.test["student"]["top1"].value)


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_that_is_not_installed(small_train, tmp_path, monkeypatch, name):
    def missing(*_):
        raise ModuleNotFoundError(name)

    monkeypatch.setitem(LOGGERS, name, missing)
    with pytest.raises(UserError, match=rf"^loggers={name}: it is not installed: pip install 'classmates\[{name}\]'"):
        small_train(out=tmp_path / "run", loggers=[name])
    assert not (tmp_path / "run").exists()

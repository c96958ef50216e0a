"""Training from Python says what the command line says, and nothing of Lightning's own."""

import logging
import warnings
from contextlib import suppress

from lightning.fabric.utilities.warnings import PossibleUserWarning

from classmates._progress import say
from classmates.training.quiet import LOGGERS, quiet_libraries


def test_training_says_notes_alone(small_train, tmp_path, capfd, caplog, recwarn):
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    small_train(out=tmp_path / "run", epochs=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert all(line.startswith("note: ") for line in err.splitlines())
    assert not [record for record in caplog.records if record.name.startswith("lightning")]
    assert not [one for one in recwarn if "lightning" in str(one.filename) and one.category is not DeprecationWarning]


def test_what_was_set_before_is_set_again_and_verbose_says_all(caplog):
    logger = logging.getLogger(LOGGERS[0])
    logger.setLevel(logging.INFO)
    filters = list(warnings.filters)
    with suppress(ZeroDivisionError), quiet_libraries():
        logger.info("GPU available: False")
        warnings.warn("possibly wrong", PossibleUserWarning, stacklevel=1)
        raise ZeroDivisionError
    assert logger.level == logging.INFO
    assert warnings.filters == filters
    with say(libraries=True), quiet_libraries():
        logger.info("TPU available: False")
    assert [record.message for record in caplog.records] == ["TPU available: False"]

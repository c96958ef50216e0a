"""The command line as it is typed: what reaches the functions, what is printed, and every wrong input."""

import functools
import inspect
import os
import sys
from pathlib import Path
from shlex import split

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import classmates
from classmates.cli import COMMANDS, main
from classmates.cli.words import read
from classmates.tasks.classification import Classification
from classmates.training.train import train


@pytest.fixture
def trained_with(monkeypatch):
    """Puts the command line to work and gives the arguments that ``train`` would have got."""
    calls = []

    @functools.wraps(train)
    def note(**arguments):
        calls.append(arguments)

    monkeypatch.setattr("classmates.training.train.train", note)
    monkeypatch.setitem(COMMANDS, "train", COMMANDS["train"]._replace(show=lambda result: ""))

    def command(*typed):
        assert main(["train", *typed]) == 0
        return calls[-1]

    return command


def option(arguments, name):
    return arguments["method"].resolved()[name]


# What reaches the function


def test_every_default_is_that_of_python(trained_with):
    arguments = trained_with()
    for name, parameter in inspect.signature(train).parameters.items():
        if name not in ("method", "task", "callbacks", "loggers"):
            assert arguments[name] == parameter.default, name
    assert arguments["loggers"] == []
    assert arguments["task"]() == Classification()
    assert "callbacks" not in arguments


def test_values_get_the_types_of_the_signature(trained_with):
    arguments = trained_with(
        *split("--data 123 --epochs 3 --lr 1e-2 --resume true --devices 2 --stages [a,b] --gradient_clip null"),
        *split("--model_args.drop_rate 0.1 --model_args.act_layer silu --augmentation.flip false"),
    )
    assert arguments["data"] == "123"
    assert (arguments["epochs"], arguments["lr"], arguments["resume"]) == (3, 0.01, True)
    assert (arguments["devices"], arguments["stages"], arguments["gradient_clip"]) == (2, ["a", "b"], None)
    assert arguments["model_args"] == {"drop_rate": 0.1, "act_layer": "silu"}
    assert arguments["augmentation"] == classmates.data.Augmentation(flip=False)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("--loggers tensorboard", ["tensorboard"]),
        ("--loggers tensorboard,wandb", ["tensorboard", "wandb"]),
        ("--loggers [wandb]", ["wandb"]),
        ("--mean 0.5,0.25,1", [0.5, 0.25, 1.0]),
        ("--std 0.5", [0.5]),
        ("--stages layer1,layer2", ["layer1", "layer2"]),
        ("--stages layer1", ["layer1"]),
    ],
)
def test_a_list_of_words_or_numbers_is_typed_with_commas(trained_with, typed, expected):
    assert trained_with(*split(typed))[typed.split()[0].removeprefix("--")] == expected


def test_a_method_is_named_without_its_path_and_its_options_follow_with_a_dot(trained_with):
    arguments = trained_with("--method.num-negatives=5", "--method.share", "-1", "--method", "MCL")
    assert arguments["method"].kind is classmates.MCL
    assert (option(arguments, "num_negatives"), option(arguments, "share")) == (5, -1)
    assert option(trained_with("--method", "classmates.CORSD", "--method.alpha", "0.5"), "alpha") == 0.5


@pytest.mark.parametrize("typed", ["[resnet14,vgg16]", "resnet14,vgg16"])
def test_an_option_that_takes_a_list_takes_commas_too(trained_with, typed):
    for words in (
        ["--method.peer_models", typed, "--method", "MCL"],
        ["--method", "MCL", "--method.peer_models", typed],
    ):
        assert option(trained_with(*words), "peer_models") == ["resnet14", "vgg16"]
    assert option(trained_with("--method", "MCL", "--method.peer_models", "resnet14"), "peer_models") == ["resnet14"]


def test_the_path_of_a_teacher_may_have_a_comma(trained_with):
    assert option(trained_with("--method", "KD", "--method.teacher", "runs/a,b"), "teacher") == "runs/a,b"
    assert option(trained_with("--method", "KD", "--method.teacher", "[a,b]"), "teacher") == ["a", "b"]


def test_options_are_known_by_the_names_of_earlier_versions(trained_with, tmp_path):
    assert option(trained_with("--method", "DML", "--method.helpers", "[resnet14]"), "peer_models") == ["resnet14"]
    config = tmp_path / "old.yaml"
    config.write_text("method: {class_path: KD, init_args: {teacher: runs/t, remember: true}}")
    assert option(trained_with("--config", str(config)), "cache") is True


def test_a_method_of_the_users_own_is_found_in_the_working_folder(trained_with, tmp_path, monkeypatch):
    (tmp_path / "own_method.py").write_text(
        "from classmates import Baseline\n\n"
        "class Own(Baseline):\n"
        "    def __init__(self, network, data, *, strength: float = 1.0):\n"
        "        super().__init__(network, data)\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    for name in ("own_method.py:Own", "own_method.Own", str(tmp_path / "own_method.py:Own")):
        arguments = trained_with("--method", name, "--method.strength", "2")
        assert option(arguments, "strength") == 2.0
        assert arguments["method"].class_path == "own_method.py:Own"
        assert main(["train", "--method", name, "--method.strenght", "2"]) == 2
    assert sys.path == before


def test_a_path_of_a_flag_need_not_be_utf8(trained_with):
    for flag in ("out", "data_dir", "model_weights"):
        assert os.fsencode(trained_with(f"--{flag}", os.fsdecode(b"o\xff"))[flag]) == b"o\xff"


def test_arguments_of_a_choice_in_yaml_outlive_a_flag_that_makes_it_first(trained_with, tmp_path):
    """They are dropped only where the file has made another choice itself."""
    config = tmp_path / "config.yaml"
    for name, first, other in (("model", "resnet8", "vgg16"), ("optimizer", "SGD", "AdamW")):
        config.write_text(yaml.safe_dump({f"{name}_args": {"a": 1}}))
        assert trained_with("--config", str(config), f"--{name}", first)[f"{name}_args"] == {"a": 1}
        config.write_text(yaml.safe_dump({name: first, f"{name}_args": {"a": 1}}))
        assert trained_with("--config", str(config), f"--{name}", first)[f"{name}_args"] == {"a": 1}
        assert not trained_with("--config", str(config), f"--{name}", other)[f"{name}_args"]


@pytest.mark.parametrize("options", ["method: {peers: 3}", "method: {init_args: {peers: 3}}", "method.peers: 3"])
def test_options_in_a_file_are_of_the_method_that_is_named_after_them(trained_with, tmp_path, options):
    ways = {"flag": ["--method", "MCL"], "later file": ["--config", str(tmp_path / "later.yaml")]}
    (tmp_path / "later.yaml").write_text("method: MCL")
    (tmp_path / "options.yaml").write_text(options)
    for way, words in ways.items():
        assert option(trained_with("--config", str(tmp_path / "options.yaml"), *words), "peers") == 3, way
    (tmp_path / "named.yaml").write_text("method: {class_path: MCL, peers: 3}")
    (tmp_path / "more.yaml").write_text("method: {beta: 0.5}")
    both = trained_with("--config", str(tmp_path / "named.yaml"), "--config", str(tmp_path / "more.yaml"))
    assert (option(both, "peers"), option(both, "beta")) == (3, 0.5)


def test_an_optimiser_is_the_same_in_other_letters(trained_with, tmp_path):
    (tmp_path / "own.yaml").write_text("optimizer: SGD\noptimizer_args: {momentum: 0.5}")
    arguments = trained_with("--config", str(tmp_path / "own.yaml"), "--optimizer", "sgd")
    assert arguments["optimizer_args"] == {"momentum": 0.5}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *[("data", word) for word in ("007", "on", "no", "2024-01-01", "32", "~/photos", "s3://bucket//x")],
        *[("label", word) for word in ("007", "no", "1:30", "32")],
        *[("max_time", "1:02:00:00"), ("precision", "32"), ("epochs", "010"), ("lr", "1e-3"), ("on", "ray")],
        *[("out", "~/runs/x"), ("model_weights", "~/w.pth"), ("model_args.width", "010"), ("model_args.bias", "no")],
    ],
)
def test_a_word_means_the_same_in_a_file_and_as_a_flag(trained_with, tmp_path, name, word):
    (tmp_path / "own.yaml").write_text(f"{name}: {word}")
    head = name.partition(".")[0]
    of_file = trained_with("--config", str(tmp_path / "own.yaml"))[head]
    assert of_file == trained_with(f"--{name}={word}")[head]
    if "~" in word:
        assert str(of_file) == os.path.expanduser(word)


def test_flags_go_over_yaml_whatever_the_order(trained_with, tmp_path):
    config = tmp_path / "config.yaml"
    method = {"class_path": "classmates.MCL", "init_args": {"peers": 3, "beta": 0.5}}
    config.write_text(yaml.safe_dump({"epochs": 7, "lr": 0.3, "method": method, "model_args": {"a": 1}}))
    flags = split("--epochs 9 --method.peers 2 --model_args.b 2")
    for typed in (["--config", str(config), *flags], [*flags, f"--config={config}"]):
        arguments = trained_with(*typed)
        assert (arguments["epochs"], arguments["lr"]) == (9, 0.3)
        assert arguments["model_args"] == {"a": 1, "b": 2}
        assert (option(arguments, "peers"), option(arguments, "beta")) == (2, 0.5)
    assert option(trained_with("--config", str(config), "--method", "MCL"), "peers") == 3
    other = trained_with("--config", str(config), "--method", "CORSD")
    assert (option(other, "alpha"), option(other, "beta")) == (0.01, 0.01)  # the options of MCL are not CORSD's


def test_the_demo_is_mcl_on_500_labelled_digits(trained_with):
    demo = Path(__file__).parents[1] / "recipes" / "demo.yaml"
    arguments = trained_with("--config", str(demo))
    assert (arguments["data"], arguments["train_size"], arguments["seed"]) == ("digits", 500, 0)
    assert arguments["model"] == "resnet8"
    assert arguments["method"].kind is classmates.MCL


names = st.from_regex(r"[a-z]+(_[a-z]+){0,2}", fullmatch=True)


flag = st.tuples(names, st.text().filter(lambda text: not text.startswith("--")), st.booleans())


@given(st.lists(flag, unique_by=lambda one: one[0]))
def test_dashes_and_equals_signs_change_nothing(flags):
    typed = []
    for name, text, joined in flags:
        flag = "--" + name.replace("_", "-")
        typed += [f"{flag}={text}"] if joined else [flag, text]
    assert read(typed, {}, ()) == [(name, text) for name, text, _ in flags]


# Wrong input

WRONG = {
    "trian": ["unknown command 'trian'", "'train'"],
    "train --epcohs 3": ["unknown flag '--epcohs'", "'epochs'"],
    "train --epcohs": ["unknown flag '--epcohs'", "'epochs'"],
    "train --peers 2 --method MCL": ["unknown flag '--peers'", "'method.peers'"],
    "compare --methods Baseline --methods MCL": ["--methods is given twice", "--methods A,B"],
    "train --epochs 3 --epochs=4": ["--epochs is given twice"],
    "improve --data ./photos --epochs 30": ["unknown flag '--epochs'", "--train.epochs"],
    "compare --image_size 96": ["unknown flag '--image_size'", "--train.image_size"],
    "train --xyzzy 3": ["unknown flag '--xyzzy'", "classmates train --help"],
    "train --callbacks []": ["unknown flag '--callbacks'"],
    "train -e 3": ["unknown flag '-e'"],
    "train digits": ["'digits' is one word too many"],
    "train --epochs": ["--epochs needs a value", "INT"],
    "train --epochs --lr 1": ["--epochs needs a value", "INT"],
    "train --epochs many": ["'--epochs' takes INT, not 'many'"],
    "train --resume maybe": ["'--resume' takes true|false, not 'maybe'"],
    "train --on-bad-image ignore": ["'--on_bad_image' takes error|skip, not 'ignore'"],
    "train --loggers tensorbord": ["'--loggers' takes [tensorboard|wandb,...], not "],
    "train --augmentation.flop true": ["unknown flag '--augmentation.flop'", "'augmentation.flip'"],
    "train --augmentation.fill 300": ["fill is 300"],
    "train --seed -1": ["seed=-1", "0 to 4294967295"],
    "train --out a_list.yaml/run": ["'a_list.yaml/run/config.yaml' cannot be written", "--out"],
    "train --method MLC": ["unknown method 'MLC'", "'MCL'"],
    "train --method no.such.Thing": ["'no.such.Thing' cannot be imported"],
    "train --method json.JSONEncoder": ["'json.JSONEncoder' is no method"],
    "train --method MCL --method.pers 2": ["unknown option of MCL 'pers'", "'peers'"],
    "train --method MCL --method.xyzzy 2": ["unknown option of MCL 'xyzzy'", "--method.help MCL"],
    "train --method.peers 2": ["unknown option of Baseline 'peers'", "MCL"],
    "train --method.xyzzy 2": ["unknown option of Baseline 'xyzzy'", "it has none"],
    "train --method MCL --method.peers two": ["'--method.peers' takes INT, not 'two'"],
    "train --method MCL --method.peers 1": ["peers=1"],
    "train --model resnet31": ["unknown model 'resnet31'", "resnet"],
    "train --data digit": ["unknown data set 'digit'", "digits"],
    "train --out s3://bucket/run": ["it is an address, and results are written to folders of this machine"],
    "train --out ''": ["flag '--out' takes PATH, not ''"],
    "train --label ''": ["flag '--label' takes TEXT, not ''"],
    "evaluate run --data ''": ["flag '--data' takes PATH, not ''"],
    "train --quiet=true": ["--quiet takes no value"],
    "train --weight_decay 1e-4": ["--optimizer_args.weight_decay"],
    "train --cutmix 1": ["'augmentation.cutmix'"],
    "train --shot 5": ["--task.shot of few_shot"],
    "train --peers 2": ["--method.peers of ", "MCL"],
    "compare --method.help MCL": ["`classmates train --method.help NAME`"],
    "train --config nul.yaml": ["cannot be written", "--out"],
    "train --config no_text.yaml": ["key 'label' in no_text.yaml takes TEXT, not '1.1': put it in quotes"],
    "train --config methods_typo.yaml": ["unknown method 'MLC'", "'MCL'"],
    "train --config methods_word.yaml": ["methods must have lines 'name: value', not 'MCL'"],
    "train --config methods_number.yaml": ["methods.MCL must have lines 'name: value', not 3"],
    "train --method MCL --config methods_option.yaml": ["methods.MCL.method must have lines", "not 3"],
    "train --config nothing.yaml": ["nothing.yaml", "No such file"],
    "train --config bad_key.yaml": ["unknown key 'epohcs' in bad_key.yaml", "'epochs'"],
    "train --config bad_option.yaml": ["unknown option of MCL 'pears'", "'peers'"],
    "train --config bad_value.yaml": ["key 'epochs' in bad_value.yaml takes INT, not 'three'"],
    "train --config no_yaml.yaml": ["no_yaml.yaml is no YAML file"],
    "train --config recipes/evidence/photo.yaml": ["'recipes/evidence/photo.yaml'", "'evidence/photos'"],
    "train --config evidence/photos": ["photos.yaml is a recipe for several runs", "compare --recipe"],
    "completion bahs": ["takes bash|zsh|fish, not 'bahs'"],
    "train --config a_list.yaml": ["a_list.yaml must have lines 'name: value'"],
    "evaluate": ["evaluate needs RUN"],
    "evaluate nowhere": ["no trained student in 'nowhere'"],
    "transfer": ["transfer needs RUN"],
    "transfer nowhere": ["transfer needs --data PATH: labelled images"],
    "transfer nowhere --data digits": ["no trained student in 'nowhere'"],
    "predict nowhere": ["predict needs IMAGES"],
    "report nowhere": ["nowhere"],
    "export nowhere --format onxx": ["'--format' takes safetensors|onnx|torch, not 'onxx'"],
    "describe resnet31": ["unknown model 'resnet31'"],
    "list things": ["takes all|methods|models|datasets, not 'things'"],
}


@pytest.mark.parametrize("typed", WRONG)
def test_wrong_input_is_one_clear_message(typed, tmp_path, monkeypatch, capsys):
    files = {
        "bad_key.yaml": "epohcs: 3",
        "bad_option.yaml": "method: {class_path: MCL, init_args: {pears: 3}}",
        "bad_value.yaml": "epochs: three",
        "no_yaml.yaml": "a: [1",
        "a_list.yaml": "[1, 2]",
        "nul.yaml": 'out: "a\\0b"',
        "no_text.yaml": "label: 1.10",
        "methods_typo.yaml": "methods: {MLC: {lr: 0.01}}",
        "methods_word.yaml": "methods: MCL",
        "methods_number.yaml": "methods: {MCL: 3}",
        "methods_option.yaml": "methods: {MCL: {method: 3}}",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(split(typed)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("classmates: error: ")
    assert err.count("\n") == 1
    for part in WRONG[typed]:
        assert part in err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)  # nothing was written


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{classmates.__version__}\n"

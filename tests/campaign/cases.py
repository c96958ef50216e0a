"""Wrong inputs by kind: what is typed, the files it needs, and the words that the message must have.

A fault that is found becomes a line here, beside others of its kind.
"""

from collections.abc import Mapping
from typing import NamedTuple

TRAIN = {"data": "digits", "train_size": 60, "batch_size": 20, "epochs": 1, "model": "resnet8", "out": "out"}
COMPARE = "compare --methods Baseline --data digits --out out --train.epochs 1 --train.train_size 60 --dry_run "
LONG = "x" * 5000
MANY = 10**9
THIRTY = f"[{','.join(map(str, range(30)))}]"


class Case(NamedTuple):
    """typed: the command line. words: parts of the message. files: content by name, written before."""

    typed: str
    words: tuple[str, ...]
    files: Mapping[str, str] = {}


def of_train(flags: str, *words: str) -> Case:
    given = {word[2:].partition("=")[0] for word in flags.split() if word.startswith("--")}
    usual = [f"--{name} {value}" for name, value in TRAIN.items() if name not in given]
    return Case(" ".join(["train", *usual, flags]), words)


def of_file(name: str, content: str, typed: str, *words: str) -> Case:
    return Case(typed, words, {name: content})


RECIPE = "base: none\nrows: {Baseline: {method: Baseline}}\nmodels: [resnet8]\ndata: [digits]\n"
CARD = (
    '{"model": "resnet8", "class_names": ["a", "b"], "input_shape": [1, 8, 8], "mean": [0.5], "std": [0.5], '
    '"resize": 8, "model_args": {"in_chans": 1}}'
)


def of_recipe(lines: str, *words: str) -> Case:
    return of_file("own.yaml", RECIPE + lines, "compare --recipe own.yaml --out out --dry_run", *words)


def of_card(old: str, new: str, *words: str) -> Case:
    files = {"run/student.json": CARD.replace(old, new), "run/student.safetensors": ""}
    return Case("predict run image.png", ("student.json", *words), files)


CASES = {
    "arguments of a schedule": [
        of_train(
            "--schedule CosineAnnealingLR --schedule_args.T_max 0", "schedule CosineAnnealingLR", "schedule_args"
        ),
        of_train("--schedule StepLR --schedule_args.step_size 0", "schedule StepLR", "ZeroDivisionError"),
        of_train(
            "--schedule MultiStepLR --schedule_args.milestones abc", "'milestones' takes", "Iterable[int]", "abc"
        ),
        of_train("--schedule MultiStepLR --schedule_args.milestones [a,b]", "'milestones' takes", "Iterable[int]"),
        of_train("--schedule CosineAnnealingLR --schedule_args.eta_min .nan", "schedule_args.eta_min=nan"),
        of_train("--schedule CosineAnnealingLR --schedule_args.eta_min abc", "'eta_min' takes float", "abc"),
        of_train("--schedule CosineAnnealingLR --schedule_args.last_epoch 5", "schedule CosineAnnealingLR"),
        of_train("--schedule OneCycleLR --schedule_args.total_steps 1", "schedule OneCycleLR", "step 2"),
        of_train("--schedule ExponentialLR --schedule_args.gamma -1", "schedule ExponentialLR", "rate"),
    ],
    "an optimiser": [
        of_train("--optimizer LBFGS --lr 0.1", "optimizer LBFGS", "closure", "AdamW"),
        of_train("--optimizer SparseAdam --lr 0.1", "optimizer SparseAdam", "dense gradients", "AdamW"),
        of_train("--optimizer adahessian --lr 0.1", "optimizer adahessian", "AdamW"),
        of_train("--optimizer fusedadam --lr 0.1", "optimizer fusedadam", "CUDA"),
        of_train("--optimizer Adam --optimizer_args.betas abc", "'betas' takes", "abc"),
        of_train("--optimizer SGD --optimizer_args.weight_decay .nan", "optimizer_args.weight_decay=nan"),
        Case(COMPARE + "--train.optimizer LBFGS --train.lr 0.1", ("row 'Baseline'", "optimizer LBFGS")),
    ],
    "a number": [
        of_train("--lr .nan", "lr=nan: give a finite number"),
        of_train("--gradient_clip .inf", "gradient_clip=inf"),
        of_train("--method MCL --method.beta .nan", "method.beta=nan"),
        of_train("--model_args.drop_rate .inf", "model_args.drop_rate=inf"),
        of_train("--stages []", "stages=[]"),
        of_file("own.yaml", "augmentation: {mixup: null}", "train --config own.yaml", "mixup", "takes NUMBER"),
        of_file("own.yaml", "method: {class_path: MCL, init_args: {beta: null}}", "train --config own.yaml", "beta"),
        Case("sweep --space.lr [.nan] --out out", ("space.lr=nan",)),
        Case("sweep --search random --space.epochs integers(1.2,1.8)", ("integers(1.2,1.8)", "no whole number")),
        Case("sweep --search random --space.lr uniform(0,1e999)", ("uniform(0,1e999)",)),
    ],
    "a count of absurd size": [
        of_train(f"--method MCL --method.peers {MANY}", f"peers={MANY}", "GiB of memory", "smaller"),
        of_train(f"--method DML --method.peers {MANY}", f"peers={MANY}", "GiB of memory"),
        of_train(
            f"--method MCL --method.dimension {MANY}", f"dimension={MANY}", "embeddings of 60 samples by 4 peers"
        ),
        of_train(f"--method MCLBatch --method.dimension {MANY}", f"dimension={MANY}", "projections"),
        of_train(f"--method BornAgain --method.generations {MANY}", f"generations={MANY}", "GiB of memory"),
        of_train(f"--task few_shot --task.episodes {MANY}", f"episodes={MANY}", "GiB of memory"),
        of_train(f"--task few_shot --task.eval_episodes {MANY}", f"eval_episodes={MANY}", "GiB of memory"),
        of_train(f"--devices {MANY}", f"devices={MANY}", "processes"),
        of_train(f"--num_workers {MANY}", f"num_workers={MANY}", "processes"),
        Case(f"data digits --image_size {MANY}", (f"image_size={MANY}", "pixels of one image")),
        Case(COMPARE + f"--seeds {MANY}", (f"seeds is {MANY}", "10,000")),
        Case(f"sweep --search random --space.lr uniform(0,1) --trials {MANY}", (f"trials={MANY}", "10,000")),
        Case(f"sweep --space.epochs {THIRTY} --space.batch_size {THIRTY} --space.seed {THIRTY}", ("10,000",)),
    ],
    "hardware": [
        of_train("--accelerator tpu", "accelerator", "torch_xla"),
        of_train("--strategy ddp_notebook", "strategy 'ddp_notebook'", "take ddp"),
        of_train("--strategy ddp_spawn", "strategy 'ddp_spawn'", "take ddp"),
        Case(COMPARE + "--train.accelerator tpu", ("row 'Baseline'", "accelerator 'tpu'")),
    ],
    "a method": [
        of_file("own.yaml", "method: [MCL]", "train --config own.yaml", "method ['MCL'] is no name", "class_path"),
        of_file("own.yaml", "method: {class_path: MCL, init_args: x}", "train --config own.yaml", "init_args", "'x'"),
        of_file("own.yaml", "method: {class_path: .a.B}", "train --config own.yaml", "method '.a.B'"),
        of_file("own.yaml", "method: {class_path: {a: b}}", "train --config own.yaml", "is no name"),
        of_train("--method a..B", "method 'a..B' cannot be imported"),
        of_train("--method ../..", "method '../..' cannot be imported"),
        of_train("--method /.B", "method '/.B' cannot be imported"),
        of_recipe("settings: {method: [MCL]}", "is no name"),
    ],
    "a model": [
        of_train("--model_args.num_classes 3", "model_args: 'num_classes'", "the data say"),
        of_train("--model_args.in_chans 3", "model_args: 'in_chans'", "the images say"),
        of_train("--model_args.pretrained true", "model_args: 'pretrained'", "--pretrained"),
        Case("describe resnet18.nope", ("unknown weights of a model 'resnet18.nope'", "resnet18.")),
        Case(f"describe {LONG}", ("unknown model 'xxx",)),
    ],
    "a key of YAML given twice": [
        of_file("own.yaml", "lr: 0.1\nepochs: 1\nlr: 0.2", "train --config own.yaml", "key 'lr'", "twice"),
        of_file("own.yaml", "model_args: {a: 1, a: 2}", "train --config own.yaml", "key 'a'", "twice"),
        of_recipe("base: paper", "own.yaml", "key 'base'", "twice"),
        of_file(
            "own.yaml", "method: MCL\nmethod: KD", "compare --methods own.yaml --dry_run", "key 'method'", "twice"
        ),
    ],
    "YAML that multiplies": [
        of_file(
            "own.yaml",
            "\n".join(
                ["a: &a [1]", *(f"{n}: &x{n} [{', '.join([f'*x{n - 1}' if n else '*a'] * 9)}]" for n in range(9))]
            ),
            "train --config own.yaml",
            "own.yaml",
            "more than 100,000 values",
        ),
        of_file("own.yaml", "a: &a [*a]", "train --config own.yaml", "own.yaml", "within what it names"),
        of_file("own.yaml", "[" * 1200, "train --config own.yaml", "own.yaml"),
    ],
    "a recipe": [
        of_recipe("published: {resnet8: {Baseline: about 70}}", "published: resnet8: Baseline", "about 70", "71.5"),
        of_recipe("published: {resnet8: [70]}", "published: resnet8"),
        of_recipe("reference: {a: b}", "reference must be a text"),
        of_recipe("title: 3", "title must be a text"),
        of_recipe("models_settings: {resnet8: [1]}", "models_settings: resnet8"),
        of_recipe("models_settings: {resnet8: {rows: {Baseline: x}}}", "rows: Baseline must have lines", "'x'"),
        of_recipe("scores: {Baseline: 3}", "scores: Baseline"),
        of_file("own.yaml", "base: none", "compare --recipe own.yaml --out out", "own.yaml", "no rows", "'rows:'"),
        of_file("own.yaml", "rows: {Baseline: []}", "compare --recipe own.yaml --out out", "rows: Baseline"),
    ],
    "a student's card": [
        of_card('["a", "b"]', "3", "class_names"),
        of_card('["a", "b"]', "[]", "no class"),
        of_card("[1, 8, 8]", '"large"', "input_shape"),
        of_card("[1, 8, 8]", "[1, 8]", "input_shape"),
        of_card('"std": [0.5]', '"std": [0]', "std"),
        of_card('"mean": [0.5]', '"mean": null', "mean"),
        of_card('"resize": 8', '"resize": "all"', "resize"),
        of_card('{"in_chans": 1}', '{"num_classes": 3}', "num_classes"),
        of_card('"model": "resnet8"', '"model": "resnet8", "other": 1', "other"),
        of_card(CARD, "[]"),
    ],
    "a place": [
        of_train("--out /dev/null", "/dev/null", "--out"),
        Case("compare --methods Baseline --out /dev/null --seeds 1", ("/dev/null", "a part of this path is a file")),
        Case(f"evaluate {LONG}", ("File name too long", "shorter name")),
        Case(f"report {LONG}", ("File name too long", "shorter name")),
        Case(f"data {LONG}", ("xxx",)),
        Case(f"compare --methods Baseline --out {LONG} --seeds 1", ("File name too long", "shorter name")),
        of_train("--data hf:", "hf:", "cannot be loaded"),
        of_train("--data hf:a/b/c", "hf:a/b/c", "cannot be loaded"),
    ],
    "a logger": [of_train("--loggers qwe", "loggers"), of_train("--loggers [qwe]", "loggers")],
}
"""The wrong inputs, by kind."""

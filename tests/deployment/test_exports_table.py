"""What the table of exports says of the numbers in it, and which file it says to deploy."""

from pathlib import Path

import pytest

from classmates.deployment.exports_table import Exports, Row
from classmates.models import resnet8
from classmates.runs.student import StudentCard, save_student
from classmates.tasks.classification import ClassificationProtocol
from tests.fixtures.few_shot_run import PROTOCOL

CARD = StudentCard("resnet8", tuple("0123456789"), (1, 8, 8), (0.5,), (0.2,), (8, 8), {"in_chans": 1})


def row(name, size, time, file="", status="kept"):
    return Row(name, status=status, file=file, size=size, one_median=time, difference=0.0)


def exports(*rows):
    every = (row("student", 2e6, 3.0, "student.safetensors"), *rows)
    return Exports(every, ClassificationProtocol().record, Path("out"), Path("run"))


def test_a_student_that_is_smaller_and_faster_than_its_files_is_said_to_be():
    def verdict(*rows):
        return exports(*rows).verdict

    assert verdict(row("onnx", 3e6, 4.0)).startswith("smallest, and fastest for one image: the student itself; the")
    said = verdict(row("onnx", 3e6, 2.0))
    assert said.startswith("smallest: the student itself; fastest for one image: onnx (3.00 MB, 2 ms, +0.00 points)")
    assert verdict(row("onnx", 2e6, 3.0)).startswith("smallest, and fastest for one image: onnx (")


@pytest.mark.parametrize(("threads", "noted"), [(1, False), (None, True)])
def test_a_runtime_that_chooses_its_threads_is_marked(run_copy, threads, noted):
    measures = {"size": 1, "score": 0.5, "count": 2, "one_median": 1.0, "one_p95": 2.0}
    rows = (Row("student", threads=1, **measures), Row("executorch", threads=threads, difference=0.0, **measures))
    save_student(run_copy, resnet8(num_classes=10, in_chans=1), CARD)
    lines = str(Exports(rows, ClassificationProtocol().record, run_copy, run_copy)).splitlines()
    assert ("* its runtime chooses the number of threads" in lines) is noted
    assert any(line.strip().startswith("executorch *") for line in lines) is noted


def test_what_comes_next_of_an_embedding_are_images_to_compare_with(run_copy):
    save_student(run_copy, resnet8(num_classes=10, in_chans=1), CARD)
    of_logits, of_embeddings = (
        Exports((), protocol.record, Path("x"), run_copy).next for protocol in (ClassificationProtocol(), PROTOCOL)
    )
    assert of_logits == f"next: classmates predict {run_copy} IMAGES"
    assert of_embeddings == f"{of_logits} --support FOLDER"


def test_the_file_of_the_verdict_is_named_with_why_where_there_are_two():
    small, quick = row("onnx-int8", 1e6, 4.0, "student-int8.onnx"), row("openvino", 2e6, 2.0, "student.xml")
    assert exports(small, quick).deploy == [
        "deploy: out/student-int8.onnx (smallest)",
        "deploy: out/student.xml and out/student.bin (fastest for one image)",
    ]
    assert exports(row("torch", 1e6, 1.0, "student.pt2"), quick).deploy == ["deploy: out/student.pt2"]
    assert exports(row("torch", 3e6, 2.0, "student.pt2")).deploy == [
        "deploy: run/student.safetensors (smallest)",
        "deploy: out/student.pt2 (fastest for one image)",
    ]
    assert exports(row("torch", 1e6, 1.0, status="it failed")).deploy == ["deploy: run/student.safetensors"]

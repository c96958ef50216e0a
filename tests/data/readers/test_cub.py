import pytest
from PIL import Image

from classmates.data.loading import load
from classmates.data.readers.cub import cub200
from classmates.errors import UserError

SPECIES = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]


@pytest.fixture
def birds(tmp_path):
    place = tmp_path / "CUB_200_2011"
    lines = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    for number in range(1, 21):
        species = number % 2
        file = f"{SPECIES[species]}/bird {number}.jpg"
        (place / "images" / SPECIES[species]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 6), (number, 0, 255)).save(place / "images" / file)
        lines["images"].append(f"{number} {file}")
        lines["image_class_labels"].append(f"{number} {species + 1}")
        lines["train_test_split"].append(f"{number} {int(number <= 12)}")
    for name, rows in lines.items():
        (place / f"{name}.txt").write_text("\n".join(rows) + "\n")
    (place / "classes.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(SPECIES, 1)))
    return place


def test_the_published_split(birds):
    for folder in (birds, birds.parent):
        found = cub200(folder)
        assert found.class_names == tuple(SPECIES)
        for part, first, last in (("train", 1, 12), ("test", 13, 20)):
            split = found.parts[part]
            numbers = [int(path.stem.split()[1]) for path in split.paths]
            assert sorted(numbers) == list(range(first, last + 1))
            assert [number % 2 for number in numbers] == split.labels.tolist()
    data = load("cub200", data_dir=birds.parent, val_fraction=0.25)
    assert (len(data.train), len(data.val), len(data.test)) == (9, 3, 8)
    assert data.notes == ()


def test_what_is_missing_is_named(birds):
    (birds / "images" / SPECIES[0] / "bird 2.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 20 images(.|\n)*bird 2\.jpg"):
        load("cub200", data_dir=birds)
    (birds / "train_test_split.txt").unlink()
    with pytest.raises(UserError, match=r"cub200: .*CUB_200_2011 has no train_test_split.txt\. Unpack CUB_200"):
        cub200(birds.parent)
    with pytest.raises(UserError, match=r"has no images, no images.txt, .*classes.txt\. Unpack"):
        cub200(birds / "images")


def test_tables_that_do_not_fit(birds):
    labels = birds / "image_class_labels.txt"
    original = labels.read_text()
    labels.write_text(original + "21 1\n")
    with pytest.raises(UserError, match="are not about the same images"):
        cub200(birds)
    labels.write_text(original.replace("20 1\n", "20 9\n"))
    with pytest.raises(UserError, match=r"image_class_labels.txt has a class 9, which is not in classes.txt"):
        cub200(birds)

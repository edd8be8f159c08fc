"""Enrolment: what goes into a gallery, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from handclip_core.errors import InputError
from handclip_core.serving.gallery import TABLE, enrol, open_gallery
from handclip_core.serving.model import ServedModel, open_run
from tests.handclip_core.serving.conftest import FinishedRun

pytestmark = pytest.mark.usefixtures("no_data")


@pytest.fixture
def model(finished: FinishedRun) -> ServedModel:
    return open_run(finished("full").folder)


@pytest.fixture
def people(finished: FinishedRun, tmp_path: Path) -> Path:
    """Two images each of two people, in folders of their names."""
    run = finished("full")
    for name in dict.fromkeys(run.identities):
        files = [file for file, who in zip(run.files, run.identities, strict=True) if who == name][:2]
        (tmp_path / "people" / name).mkdir(parents=True)
        for file in files:
            shutil.copy(file, tmp_path / "people" / name)
    return tmp_path / "people"


def test_a_gallery_in_two_steps_is_that_of_one(model: ServedModel, people: Path, tmp_path: Path) -> None:
    whole = enrol(model, people, tmp_path / "whole")
    assert (whole.added, whole.known, len(whole.gallery.identities)) == (6, 0, 3)
    later = sorted(people.iterdir())[0]
    later.rename(tmp_path / "later")
    enrol(model, people, tmp_path / "parts")
    (tmp_path / "later").rename(later)
    rest = enrol(model, people, tmp_path / "parts")
    assert (rest.added, rest.known) == (2, 4)
    assert rest.gallery.entries == whole.gallery.entries
    found = open_gallery(tmp_path / "parts", model)
    assert found.entries == whole.gallery.entries
    np.testing.assert_allclose(found.embeddings, whole.gallery.embeddings, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "people", "whole"]


def test_an_embedding_is_that_of_its_image(model: ServedModel, people: Path, tmp_path: Path) -> None:
    gallery = enrol(model, people, tmp_path / "gallery").gallery
    for entry, embedding in zip(gallery.entries, gallery.embeddings, strict=True):
        assert Path(entry.image).parent.name == entry.identity
        np.testing.assert_allclose(embedding, model.embed([entry.image])[0], atol=1e-6)


def test_unreadable_images_are_listed(model: ServedModel, people: Path, tmp_path: Path) -> None:
    broken = sorted(people.iterdir())[0] / "broken.jpg"
    broken.write_bytes(b"junk")
    done = enrol(model, people, tmp_path / "gallery")
    assert list(done.unreadable) == [str(broken)]
    assert done.added == 6


def test_a_file_under_two_people_is_refused_before_anything_is_written(
    model: ServedModel, people: Path, tmp_path: Path
) -> None:
    one, other = sorted(people.iterdir())[:2]
    shutil.copy(next(one.iterdir()), other / "again.jpg")
    with pytest.raises(InputError, match=f"the same file is enrolled as '{one.name}'"):
        enrol(model, people, tmp_path / "gallery")
    assert not (tmp_path / "gallery").exists()


def test_a_gallery_of_another_model_is_refused(
    model: ServedModel, people: Path, tmp_path: Path, finished: FinishedRun
) -> None:
    enrol(model, people, tmp_path / "gallery")
    other = open_run(finished("probe").folder)
    with pytest.raises(InputError, match="was made by another model"):
        open_gallery(tmp_path / "gallery", other)
    with pytest.raises(InputError, match="was made by another model"):
        enrol(other, people, tmp_path / "gallery")


def test_a_damaged_gallery_is_refused(model: ServedModel, people: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    enrol(model, people, gallery)
    lines = (gallery / TABLE).read_text().splitlines()
    (gallery / TABLE).write_text("\n".join(lines[:-1]))
    with pytest.raises(InputError, match=r"images.csv or embeddings.npy was changed or damaged"):
        open_gallery(gallery, model)
    with pytest.raises(InputError, match=r"holds no gallery.json"):
        open_gallery(people, model)


def test_folders_without_people(model: ServedModel, tmp_path: Path) -> None:
    (tmp_path / "empty" / "nobody").mkdir(parents=True)
    with pytest.raises(InputError, match="no images of people"):
        enrol(model, tmp_path / "empty", tmp_path / "gallery")

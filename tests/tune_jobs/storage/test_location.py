import threading
from pathlib import Path

import pytest
import requests

from handclip_core.errors import InputError
from tests.tune_jobs.conftest import ObjectStore
from tune_jobs.config.settings import SweepSettings, dump_settings, load_settings
from tune_jobs.storage import location as places
from tune_jobs.storage.location import (
    BucketLocation,
    exists,
    files_below,
    folder_of,
    is_folder,
    local_copy,
    open_location,
    parse_location,
)

OPTIONS = "?endpoint_override=http://127.0.0.1:9&region=eu-west-1"


@pytest.mark.parametrize("options", ["", OPTIONS])
def test_places_below_and_above_keep_the_options(options: str) -> None:
    place = BucketLocation(f"s3://hands/runs{options}") / "first" / "trials/0001-full"
    assert str(place) == f"s3://hands/runs/first/trials/0001-full{options}"
    assert place.name == "0001-full"
    assert str(place.parent.parent) == f"s3://hands/runs/first{options}"
    assert str(BucketLocation("s3://hands/") / "first") == "s3://hands/first"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        (f"s3://hands/runs/first{OPTIONS}", "hands/runs/first"),
        (f"s3://hands{OPTIONS}", "hands"),
        ("file:///tmp/runs/first", "/tmp/runs/first"),
    ],
)
def test_what_lies_below_a_root_has_its_file_system(uri: str, path: str) -> None:
    assert open_location(BucketLocation(uri)).path == path
    assert open_location(BucketLocation(uri)).filesystem is open_location(BucketLocation(uri) / "below").filesystem


def test_settings_keep_a_uri_as_it_was_typed(tmp_path: Path) -> None:
    uri = f"s3://hands/runs{OPTIONS}"
    settings = SweepSettings.model_validate({"storage": uri, "warm_start": f"{uri}/x"})
    (tmp_path / "sweep.yaml").write_text(dump_settings(settings))
    assert f"storage: {uri}\n" in (tmp_path / "sweep.yaml").read_text()
    assert load_settings(tmp_path / "sweep.yaml") == settings
    assert settings.storage == BucketLocation(uri)
    overridden = load_settings(tmp_path / "sweep.yaml", overrides=["storage=s3://other/runs", "warm_start=first"])
    assert (overridden.storage, overridden.warm_start) == (BucketLocation("s3://other/runs"), Path("first"))
    assert parse_location("runs//first") == Path("runs/first")


def test_keys_in_a_uri_are_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("storage: s3://key:secret@hands/runs\n")
    with pytest.raises(InputError, match="storage: a URI with keys would be written down") as raised:
        load_settings(tmp_path / "sweep.yaml")
    assert "secret@" not in str(raised.value)


def test_working_copies_are_told_apart_by_the_whole_uri_of_their_storage() -> None:
    uris = ["s3://hands/runs/first", "s3://hands/other/first", f"s3://hands/runs/first{OPTIONS}"]
    copies = [folder_of(BucketLocation(uri)) for uri in uris]
    assert {copy.name for copy in copies} == {"first"}
    assert len({copy.parent for copy in copies}) == 3


def test_objects_are_written_whole_read_listed_and_deleted(bucket: BucketLocation, tmp_path: Path) -> None:
    assert (bucket / "a").read() is None
    assert not exists(bucket / "a")
    assert not is_folder(bucket / "below")
    (bucket / "a").write(b"one")
    (bucket / "a").write(b"two")
    (tmp_path / "file").write_bytes(b"x" * 20_000_000)
    (bucket / "below/b").send(tmp_path / "file")
    assert (bucket / "a").read() == b"two"
    assert sorted(files_below(bucket)) == ["a", "below/b"]
    assert is_folder(bucket / "below")
    assert not is_folder(bucket / "a")
    with local_copy(bucket / "below") as folder:
        assert (folder / "b").read_bytes() == (tmp_path / "file").read_bytes()
    assert not folder.exists()
    (bucket / "a").delete()
    (bucket / "a").delete()
    assert files_below(bucket) == ["below/b"]
    with pytest.raises(FileNotFoundError), local_copy(bucket / "gone"):
        pass


def test_a_bucket_that_can_be_used_is_left_as_it_was(bucket: BucketLocation) -> None:
    bucket.check()
    assert files_below(bucket) == []


def test_a_missing_bucket_is_named(object_store: ObjectStore) -> None:
    with pytest.raises(InputError, match=r"^storage: s3://nobodys/runs.*: there is no bucket 'nobodys'; make it"):
        (object_store.place("nobodys") / "runs").check()


def test_wrong_keys_are_one_line(object_store: ObjectStore, bucket: BucketLocation) -> None:
    requests.post(f"{object_store.address}/moto-api/reset-auth", data=b"0", timeout=30)
    try:
        with pytest.raises(InputError, match=r"cannot be used .*; look at its name, endpoint and keys") as raised:
            bucket.check()
    finally:
        requests.post(f"{object_store.address}/moto-api/reset-auth", data=b"inf", timeout=30)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://hands/runs?endpoint_override=http://127.0.0.1:9", "NETWORK_CONNECTION"),
        ("s3://hands/runs?endpint=1", "endpint"),
        ("carrier-pigeon://hands/runs", "Unrecognized filesystem"),
    ],
)
def test_what_does_not_answer_or_is_no_uri_is_one_line(object_store: ObjectStore, uri: str, reason: str) -> None:
    del object_store
    with pytest.raises(InputError, match=rf"^storage: .*cannot be used \(.*{reason}") as raised:
        BucketLocation(uri).check()
    assert "\n" not in str(raised.value)


def test_what_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "ANSWER_S", 0.1)
    over = threading.Event()
    monkeypatch.setattr(BucketLocation, "write", lambda *_: over.wait(60))
    with pytest.raises(InputError, match=r"does not answer within 0.1 s"):
        BucketLocation(f"file://{tmp_path}").check()
    over.set()

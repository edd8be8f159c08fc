"""Documents and options that are wrong: one line that says how, from the command that reads them."""

from pathlib import Path

import pytest

from tests.bad_inputs.conftest import Told

DEEP = "[" * 60 + "]" * 60
DOCUMENTS = {
    "nothing but a list": ("[1, 2]", "not a mapping"),
    "a word": ("hands", "not a mapping"),
    "a number": ("3", "not a mapping"),
    "two documents": ("seed: 1\n---\nseed: 2\n", "several YAML documents"),
    "a key twice": ("seed: 1\nseed: 2\n", "line 2: 'seed' is given again after line 1"),
    "a key that is a list": ("[a]: 1\n", "a key has to be a word"),
    "half": ("{", "not readable as YAML"),
    "a tab": ("a:\n\t- b\n", "not readable as YAML"),
    "a colon too many": ("seed: 1: 2\n", "not readable as YAML"),
    "a tag": ("seed: !!python/object/apply:os.getpid []\n", "is no plain value"),
    "another tag": ("seed: !mine 3\n", "is no plain value"),
    "a binary": ("seed: !!binary aGFuZHM=\n", "is no plain value"),
    "a set": ("seed: !!set {a, b}\n", "is no plain value"),
    "itself": ("&a {seed: *a}\n", "holds itself"),
    "a name of nothing": ("seed: *a\n", "not readable as YAML"),
    "many names": (
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n"
            for before, name in zip("abcde", "bcdef", strict=True)
        ),
        "too many values",
    ),
    "too deep": (f"seed: {DEEP}\n", "nested too deep"),
    "a leading zero": ("seed: 020\n", "leading zero"),
    "base 60": ("seed: 1:30\n", "base 60"),
    "a number too long": (f"seed: {'9' * 200}\n", "no number for settings"),
    "a NUL": ("seed: \0\n", "not readable"),
    "another encoding": ("séed: 1\n".encode("latin-1"), "not a text in UTF-8"),
    "binary": (bytes(range(256)), "not a text in UTF-8"),
    "too large": (b"#" * (2**20 + 1), "more than the 1,048,576"),
    "an unknown key": ("seeed: 1\n", "unknown key 'seeed'; did you mean 'seed'"),
    "an unknown group": ("sed: {a: 1}\n", "unknown key 'sed'"),
    "a number for a key": ("3: 4\n", "3: Keys should be strings"),
    "no value for a key": ("seed:\n", "seed: None is no whole number"),
}
READERS = {
    "show": "show FILE",
    "train": "train FILE --out out",
    "train-on-cluster": "train-on-cluster FILE --out out",
    "pretrain": "pretrain FILE",
    "sweep": "sweep FILE",
    "sweep --dry-run": "sweep FILE --dry-run",
}


@pytest.mark.parametrize("command", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("text", "said"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents(told: Told, tmp_path: Path, command: str, text: str | bytes, said: str) -> None:
    file = tmp_path / "given.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    told(*command.replace("FILE", str(file)).split()).refusal(f"^error: {file}: ", said)
    assert list((tmp_path / "here").iterdir()) == []


JSONS = {
    "half": ('{"seed": ', "line 1: not readable as JSON"),
    "YAML": ("seed: 1\n", "not readable as JSON"),
    "a key twice": ('{"seed": 1, "seed": 2}', "'seed' is given twice"),
    "a comma too many": ('{"seed": 1,}', "not readable as JSON"),
    "too deep": ("[" * 100_000, "not readable as JSON"),
    "a number too long": (f'{{"seed": {"9" * 5000}}}', "not readable as JSON"),
    "not a number": ('{"seed": NaN}', "seed: nan is no|finite|whole number"),
    "nothing": ("", "not readable as JSON"),
    "a list": ("[]", "not a mapping"),
    "another encoding": ('{"é": 1}'.encode("latin-1"), "not a text in UTF-8"),
}


@pytest.mark.parametrize("command", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("text", "said"), JSONS.values(), ids=JSONS)
def test_documents_in_json(told: Told, tmp_path: Path, command: str, text: str | bytes, said: str) -> None:
    file = tmp_path / "given.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    told(*command.replace("FILE", str(file)).split()).refusal(f"^error: {file}: ", said)
    assert list((tmp_path / "here").iterdir()) == []


OPTIONS = {
    "an unknown command": ("handle", "No such command 'handle'"),
    "an unknown option": ("show --fast", "No such option: --fast"),
    "no argument": ("train --out out", "Missing argument"),
    "no option": ("train a.yaml", "Missing option '--out'"),
    "an option without a value": ("train a.yaml --out", "--out"),
    "an argument too many": ("show a b", "unexpected extra argument"),
    "a device": ("train a --out b --device tpu", "'--device'.*'auto', 'cpu', 'cuda'"),
    "a split": ("evaluate a --split train", "'--split'.*'val', 'test'"),
    "a ranking": ("evaluate a --ranking best", "'--ranking'"),
    "a gallery": ("evaluate a --gallery some", "'--gallery'"),
    "enrolled": ("evaluate a --enrolled two", "'--enrolled'"),
    "a distance": ("evaluate a --distance manhattan", "'--distance'"),
    "fusion": ("ensemble a b --out c --by hand", "'--by'"),
    "an aspect": ("embed a b --out c.npy --aspect thumb", "'--aspect'"),
    "a format": ("export a --to tflite", "'--to'"),
    "people to list": ("identify a b --gallery c --top 0", "'--top'.*greater than or equal to 1"),
    "no number of people": ("identify a b --gallery c --top many", "'--top'.*valid integer"),
    "false accepts": ("identify a b --gallery c --far often", "'--far'.*valid number"),
    "images to find": ("search a b --images c --num 1001", "'--num'|'-k'"),
    "a cut": ("prepare 11k a --out b --cut round", "'--cut'"),
    "a seed": ("prepare folder a --out b --seed -1", "'--seed'"),
    "a seed that is none": ("prepare hd a --out b --seed x", "'--seed'"),
    "people": ("prepare drawn a --out b --people 7", "'--people'"),
    "a height": ("prepare drawn a --out b --height-px 95", "'--height-px'"),
    "images an aspect": ("prepare drawn a --out b --images-per-aspect 1", "'--images-per-aspect'"),
    "sittings": ("prepare drawn a --out b --sittings 0", "'--sittings'"),
    "a share": ("prepare folder a --out b --test-share half", "'--test-share'.*valid number"),
    "trials more": ("sweep a --extend 0", "'--extend'"),
    "no trials more": ("sweep a --extend some", "'--extend'"),
    "top": ("finals a --top 0", "'--top'"),
    "seeds": ("finals a --seeds 0", "'--seeds'"),
    "a look too often": ("watch a --every 0.5", "'--every'"),
    "workers": ("train-on-cluster a --workers 65", "'--workers'"),
    "CPUs": ("train-on-cluster a --cpus 0", "'--cpus'"),
    "GPUs": ("train-on-cluster a --gpus 9", "'--gpus'"),
    "a setting without a value": ("sweep --set trials", "--set 'trials': write key=value"),
    "a setting without a key": ("sweep --set =3", "--set '=3': write key=value"),
    "a key that is none": ("settings lrr", "no setting is called 'lrr'; did you mean 'lr'"),
    "a key of sweeps that is none": ("sweep --settings trails", "did you mean 'trials'"),
}


@pytest.mark.parametrize(("command", "said"), OPTIONS.values(), ids=OPTIONS)
def test_what_is_typed_wrong(told: Told, tmp_path: Path, command: str, said: str) -> None:
    told(*command.split()).refusal(said)
    assert list((tmp_path / "here").iterdir()) == []

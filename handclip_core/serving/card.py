"""The model card: what a model is, what it was trained and measured on, what it costs, and what it is not for."""

from collections.abc import Sequence

from handclip_core.data.manifest import Cut
from handclip_core.evaluation.protocol import Enrolled, GalleryKind
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.model_file import MODEL_FILE, ModelFile
from handclip_core.runs.run_folder import LOG, read_log
from handclip_core.runs.validation import Figure, Measured, read_test
from handclip_core.serving.model import ServedEnsemble, ServedModel

PARTS = {"train": "trained on", "val": "validated on, not trained on", "test": "kept for the test"}
CUTS = {
    Cut.COMMON: "people were cut into training, validation and test for all aspects alike: nobody is in two of them",
    Cut.PUBLISHED: "people were cut into training and test as the published tables do, aspect by aspect",
}
ENROLLED = {
    Enrolled.ONE: "one image of each person and aspect, drawn at random, stands in the gallery; all others are queries",
    Enrolled.REST: "one image of each person and aspect, drawn at random, is the query; the others are the gallery",
}
GALLERIES = {
    GalleryKind.ALL: "a query is searched among images of all aspects, of which those of another aspect are no match",
    GalleryKind.OWN: "a query is searched among images of its own aspect",
}
NOT_MEASURED = "Not measured: the model was trained on the validation people too. See the report of the finals."


def model_card(served: ServedModel) -> str:
    """The card in Markdown, from what the run's folder says."""
    sections = {
        f"Model card: {_title(served)}": _what(served),
        "Intended use": _use(served),
        "Data": _data(served),
        "Protocol": _protocol(served),
        "Figures": _figures(served),
        "Decisions": _decisions(served),
        "By group": _groups(served),
        "Cost": _cost(served),
        "Limits": LIMITS,
    }
    return "\n\n".join(f"{'##' if number else '#'} {title}\n\n{text}" for number, (title, text) in
                       enumerate(sections.items())) + "\n"  # fmt: skip


LIMITS = """\
- Figures hold for people, cameras and poses like those of the data; others may be recognised worse.
- Groups that the data hardly show are hardly measured: see the counts and intervals above.
- A score is evidence, not proof. The false accept rate is of one comparison and grows with the gallery.
- Images of hands and embeddings of them are biometric data: have a legal ground, and delete what is not needed."""


def _title(served: ServedModel) -> str:
    if isinstance(served, ServedEnsemble):
        return f"ensemble of {len(served.members)} models"
    return f"{served.experiment.strategy.name} on {served.experiment.backbone.name}"


def _what(served: ServedModel) -> str:
    if isinstance(served, ServedEnsemble):
        return _together(served)
    architecture = served.model.architecture
    compared = "cosine" if served.ranks_by_cosine else "a score of its own"
    return (
        f"Embeds an image of a hand as a unit vector of {served.width} numbers, to be compared by {compared}. "
        f"Strategy `{served.experiment.strategy.name}`, "
        f"backbone `{served.experiment.backbone.name}` ({architecture.num_weights:,} weights in the image tower), "
        f"images of {served.size_px} x {served.size_px} pixels. Weights `{served.hash}`.{_read(served.model)}"
    )


def _read(model: HandModel) -> str:
    """What of the image tower counts in the embedding, if that was chosen among several vectors."""
    shares = model.metric.shares()
    if not model.metric.active or model.metric.settings.vectors == "all":
        return ""
    counted = [f"{name} {share:.0%}" for name, share in zip(model.vector_names, shares, strict=True) if share]
    return f" Of {len(shares)} vectors of the tower those count that together found most: {'; '.join(counted)}."


def _together(served: ServedEnsemble) -> str:
    compared = "cosine" if served.ranks_by_cosine else "a score of its own"
    rows = [
        [
            said.name,
            member.experiment.strategy.name,
            member.experiment.backbone.name,
            str(member.size_px),
            f"{weight:.2f}",
            f"`{said.hash[:12]}`",
        ]
        for member, said, weight in zip(served.members, served.about.members, served.about.weights, strict=True)
    ]
    said = (
        f"Embeds an image of a hand as a unit vector of {served.width} numbers, to be compared by {compared}: what "
        f"{len(rows)} models make of it, fused by {served.about.by}. Weights `{served.hash}`."
    )
    return f"{said}\n\n{_table(('member', 'strategy', 'backbone', 'pixels', 'weight', 'hash'), rows)}{_worth(served)}"


def _worth(served: ServedEnsemble) -> str:
    gain = served.about.gain
    if gain is None:
        return ""
    crossed = ""
    if gain.crossed is not None:
        crossed = f"; with weights fitted to one half of the people and measured on the other {_points(gain.crossed)}"
    fitted = ", whom its weights and scales were fitted to as well" if gain.fitted else ""
    return (
        f"\n\nAgainst its best member, `{gain.best}`, on {gain.num_people} validation people{fitted}: "
        f"{_points(gain.difference)} points{crossed}."
    )


def _points(figure: Figure) -> str:
    value, interval, _ = _figure(figure)
    return f"{value} ({interval})"


def _use(served: ServedModel) -> str:
    aspects = ", ".join(_described(served).aspects)
    return (
        f"Searching galleries of people who agreed to it, and comparing two images, where the images show: {aspects}. "
        "Not for decisions about people without a human's check, nor for telling health, origin or feelings."
    )


def _data(served: ServedModel) -> str:
    described = _described(served)
    lines = [
        f"- {text}: {described.splits[name].images} images of {described.splits[name].identities} people"
        for name, text in PARTS.items()
        if name in described.splits
    ]
    if described.shared_with_test:
        lines.append(f"- of the test's people {described.shared_with_test} were trained on, too, by other aspects")
    head = f"Source `{described.source}`, manifest SHA-256 `{described.manifest_hash}`."
    return "\n".join([head, "", *lines])


def _protocol(served: ServedModel) -> str:
    described, data = _described(served), served.experiment.data
    lines = [CUTS[described.cut]] if described.cut else []
    lines.append("settings were chosen by validation people while nothing was trained on them, and never by the test's")
    if described.gallery_splits:
        draws = " and ".join(f"{num} times for {name}" for name, num in described.gallery_splits.items())
        lines += [f"{ENROLLED[data.enrolled]}; drawn {draws}", f"{GALLERIES[data.gallery]}, by {data.distance}"]
    return "\n".join(f"- {line}" for line in lines)


def _measured(served: ServedModel) -> tuple[Measured, str]:
    """The figures that there are of a model, and of whom they are: of a final model those on test people."""
    if served.validation.figures:
        return served.validation, "validation people; the best unit of the run was chosen on them, so these flatter"
    return read_test(served.folder), "test people, by whom nothing was chosen"


def _figures(served: ServedModel) -> str:
    found, whom = _measured(served)
    if not found.figures:
        return NOT_MEASURED
    rows = [[name, *_figure(figure)] for name, figure in found.figures.items()]
    said = f"Means over {found.averaged}, with intervals by resampling people, of {whom}."
    return f"{said}\n\n{_table(('figure', '%', '95 %', 'people'), rows)}"


def _decisions(served: ServedModel) -> str:
    thresholds = served.validation.thresholds
    refused = [f"- no threshold at {reason}" for reason in thresholds.refused]
    if not thresholds.points:
        return "\n".join(["No thresholds: accept and reject are not decided.", "", *refused])
    rows = [
        [f"{one.far:g}", f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}", f"{100 * one.tar:.1f}"]
        for one in thresholds.points
    ]
    who = f", {thresholds.origin}" if thresholds.origin else " who were not trained on"
    said = (
        f"Set on {thresholds.num_genuine:,} pairs of one person and {thresholds.num_impostor:,} of two, of "
        f"{thresholds.num_identities} people{who}. Scores from the interval's upper end are "
        "accepted, those below its lower end rejected, others unknown."
    )
    table = _table(("false accepts a comparison", "threshold", "95 %", "true accepts, %"), rows)
    return "\n".join([said, "", table, *(["", *refused] if refused else [])])


def _groups(served: ServedModel) -> str:
    found, _ = _measured(served)
    groups = found.groups
    if not groups:
        return NOT_MEASURED
    rows = [
        [
            one.group,
            one.value,
            str(one.num_identities),
            str(one.num_images),
            *(_figure(one.rank_1)[:2] if one.rank_1 else ["-", "-"]),
        ]
        for one in groups
    ]
    return f"Rank-1 by search.\n\n{_table(('group', 'value', 'people', 'images', '%', '95 %'), rows)}"


def _cost(served: ServedModel) -> str:
    members = served.members if isinstance(served, ServedEnsemble) else (served,)
    paths = [member.folder / LOG for member in members]
    if not all(path.is_file() for path in paths):
        return "The folder has no log of the training."
    logs = [read_log(path) for path in paths]
    seconds = sum(float(row.get("train_s", 0)) for rows in logs for row in rows)
    images = sum(int(rows[-1]["images"]) for rows in logs)
    return f"{images:,} images shown in {seconds:,.1f} s of training, validation not counted."


def _described(served: ServedModel) -> ModelFile:
    """What is known of the training data; of an ensemble those of its first member, which are all members'."""
    first = served.members[0] if isinstance(served, ServedEnsemble) else served
    return ModelFile.from_file(first.folder / MODEL_FILE)


def _figure(figure: Figure) -> list[str]:
    interval = f"{100 * figure.low:.2f} to {100 * figure.high:.2f}"
    return [f"{100 * figure.value:.2f}", interval, str(figure.num_identities)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)

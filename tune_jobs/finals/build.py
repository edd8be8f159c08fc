"""The finals of a sweep: a list of experiments on fresh seeds, run as the trials of a sweep are."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from handclip_core.devices import select_device
from handclip_core.errors import InputError
from handclip_core.evaluation.access_log import hash_of_test
from handclip_core.runs.baselines import BaselineScores, score_baselines
from handclip_core.runs.experiment import Experiment, context_of
from handclip_core.runs.final_scores import Facts, read_facts
from handclip_core.runs.run_folder import write_text
from tune_jobs.config.settings import SETTINGS, EarlyStopping, StoppingKind, SweepSettings, dump_settings
from tune_jobs.execution import cluster
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.signals import Interrupted
from tune_jobs.finals.baselines import kept_baselines
from tune_jobs.finals.candidates import Finalist, choose, fresh_seeds
from tune_jobs.finals.fusions import FusedRuns, best_of_backbones, fuse, fusion_of
from tune_jobs.finals.in_bucket import kept_in_bucket
from tune_jobs.finals.mixtures import Complete, Entrant, Mixed, entrants_of, group_name, mix, mixable
from tune_jobs.finals.past_sweep import PastSweep
from tune_jobs.finals.ranking import Cost
from tune_jobs.lifecycle.build import read_events
from tune_jobs.lifecycle.run import INTERRUPTED, run_to_the_end
from tune_jobs.reporting.summary import log
from tune_jobs.search.proposer import FixedList
from tune_jobs.state.submission import submission_id
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials, folded
from tune_jobs.storage.lease import SweepLease
from tune_jobs.storage.location import StorageLocation, folder_of
from tune_jobs.storage.sync import FINALS, local

SOUP_FOLDER, FUSION_FOLDER = "soups", "fusions"
EARLY = EarlyStopping(kind=StoppingKind.NONE)


@dataclass(frozen=True)
class DataState:
    """Hashes of the sweep's data as they are now: of the manifest, and of the test images alone."""

    manifest_hash: str
    test_hash: str
    num_test_identities: int


@dataclass
class Finals:
    """The finals of ``past`` on ``seeds``; ``failures`` names runs that failed, with their reasons."""

    past: PastSweep
    finalists: list[Finalist]
    seeds: tuple[int, ...]
    trial_resources: TrialResources
    data: DataState
    lease: SweepLease
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> StorageLocation:
        """Where everything of the finals lies."""
        return self.past.where / FINALS

    @cached_property
    def folder(self) -> Path:
        """Its folder on this machine."""
        return folder_of(self.where)

    @property
    def cost(self) -> Cost:
        """What a run holds while it trains."""
        trial_resources = self.trial_resources
        on_gpus = trial_resources.gpus > 0
        return Cost(on_gpus, trial_resources.gpus if on_gpus else float(trial_resources.cpus))

    def entrants(self) -> list[Entrant]:
        """Run what has not been run, mix and fuse what can be, and give all that came to an end on every seed."""
        # Seed by seed, so that what is there early already says something of every finalist.
        runs = {run_name(finalist, seed): finalist.on(seed) for seed in self.seeds for finalist in self.finalists}
        self._complete(folded(read_events(self.folder)))  # runs of other data are refused before others are added
        all_trials = self.run(runs, what="runs")
        complete = self._complete(all_trials)
        self._mix_all(complete)
        self._fuse(complete)
        fused = fusion_of(complete, self.folder / FUSION_FOLDER)
        return [*entrants_of(complete, self.folder / SOUP_FOLDER), *fused]

    def baselines(self) -> BaselineScores:
        """The baselines on the same validation identities and queries, scored if they have not been yet."""
        example = self.past.tried[0].experiment

        def score() -> BaselineScores:
            log("scoring the baselines")
            return cluster.run_where_trials_run(self.trial_resources, score_baselines, example)

        return kept_baselines(self.folder, self.data.manifest_hash, example.task, score)

    def run(self, experiments: Mapping[str, Experiment], *, what: str) -> Trials:
        """Run those of ``experiments`` that are not complete; reasons of those that fail go to ``failures``.

        Raises Interrupted if the user wants it to end.
        """
        before = folded(read_events(self.folder))
        complete = {view.origin for view in before.all() if view.status is Status.COMPLETE}
        failed = [view.number for view in before.all() if view.status is Status.FAILED]
        left = [name for name in experiments if name not in complete]
        if len(left) < len(experiments):
            log(f"{len(experiments) - len(left)} of {len(experiments)} {what} are complete already")
        if not left:
            return before
        log(
            f"{what}: {len(left)}, {min(len(left), self.trial_resources.concurrent)} at a time on "
            f"{self.trial_resources.device}"
        )
        settings = self._settings(experiments, most=len(before.trials) + len(left))
        write_text(self.folder / SETTINGS, dump_settings(settings))
        # Another command tries once more what failed: it may have been the machine.
        proposer = FixedList(experiments, again=failed)
        outcome = run_to_the_end(settings, self.trial_resources, self.folder, self.lease, proposer)
        if outcome.reason == INTERRUPTED:
            raise Interrupted
        latest = {view.origin: view for view in outcome.all_trials.all()}
        for name in experiments:
            view = latest.get(name)
            if view is not None and view.status is Status.FAILED:
                self.failures[self.shown(name)] = view.reason
        return outcome.all_trials

    def shown(self, name: str) -> str:
        """A run's name as in tables."""
        key, _, rest = name.partition(", ")
        finalist = next((one for one in self.finalists if one.key == key), None)
        return name if finalist is None else f"{finalist.name}, {rest}"

    def state_of(self, view: TrialView) -> StorageLocation:
        """Where the last state of a complete run is."""
        assert view.checkpoint is not None, "states of the finals are kept"
        return self.where / view.checkpoint

    def _settings(self, experiments: Mapping[str, Experiment], *, most: int) -> SweepSettings:
        first, past = next(iter(experiments.values())), self.past.settings
        strategies = tuple(dict.fromkeys(one.strategy.name for one in experiments.values()))
        return SweepSettings(
            name=FINALS,
            storage=self.past.where,
            task=first.task,
            data=first.data,
            backbone=past.backbone,
            strategies=strategies,
            # Settings have room for the default of every arm, though a fixed list tries none.
            trials=max(most, len(strategies) * len(past.backbones)),
            budget=first.budget,
            early_stopping=EARLY,
            # What mixes, fuses and fits again reads the states of all runs.
            keep_checkpoints=max(most, 1),
            resources=past.resources.model_copy(update={"workers": 1}),
            retries=past.retries,
            stall_minutes=past.stall_minutes,
            checkpoint_every_s=past.checkpoint_every_s,
        )

    def _complete(self, all_trials: Trials) -> list[Complete]:
        """Finalists whose runs on all seeds are complete, in the order of the finalists."""
        runs = {view.origin: view for view in all_trials.all() if view.status is Status.COMPLETE}
        found = []
        for finalist in self.finalists:
            own = [runs[name] for seed in self.seeds if (name := run_name(finalist, seed)) in runs]
            if len(own) == len(self.seeds):
                folders = tuple(self._measured(view) for view in own)
                facts = tuple(self._facts(folder) for folder in folders)
                found.append(Complete(finalist, folders, facts, tuple(self.state_of(view) for view in own)))
        return found

    def _measured(self, view: TrialView) -> Path:
        """A folder of this machine with the scores of a run."""
        return local(self.state_of(view), self.folder / ".scores" / view.name, suffixes=(".npz", ".json"))

    def _facts(self, folder: Path) -> Facts:
        facts = read_facts(folder)
        if facts.manifest_hash != self.data.manifest_hash:
            raise InputError(f"{self.where}: is of other data than the sweep has now; move it away to run it again")
        return facts

    def _mix_all(self, complete: Sequence[Complete]) -> None:
        for arm, group in mixable(complete).items():
            if len(group) > 1:
                self._put_together(group, SOUP_FOLDER, mix, f"mixing the weights of {arm}")

    def _fuse(self, complete: Sequence[Complete]) -> None:
        if best := best_of_backbones(complete):
            self._put_together(best, FUSION_FOLDER, fuse, f"fusing {' and '.join(one.finalist.name for one in best)}")

    def _put_together(
        self, group: Sequence[Complete], kind: str, function: Callable[..., Mixed | FusedRuns], what: str
    ) -> None:
        """Keep what ``function`` makes of the runs of ``group``, unless it is kept already."""
        folder = self.folder / kind / group_name(group)
        if folder.exists():
            return
        log(what)
        made = cluster.run_where_trials_run(self.trial_resources, function, group, self.seeds)
        made.save(folder, group[0].finalist.experiment.task)


def run_name(finalist: Finalist, seed: int) -> str:
    """What identifies the run of ``finalist`` on ``seed`` among all of the finals."""
    return f"{finalist.key}, seed {seed}"


@contextmanager
def opened(past: PastSweep, *, top: int, seeds: int) -> Iterator[Finals]:
    """The finals of ``past``, which no second command may hold at the same time.

    Raises InputError if there is one, or cluster or data cannot be used.
    """
    where = past.where / FINALS
    folder_of(where).mkdir(parents=True, exist_ok=True)
    with SweepLease(where, job=submission_id()) as lease, kept_in_bucket(where, lease):
        cluster.connect()
        cluster.wait_for_node(past.settings.resources)
        # One process a run: several would give the same figures, and fewer runs at a time.
        trial_resources = cluster.fit_trials(past.settings.resources.model_copy(update={"workers": 1}), cluster.nodes())
        example = past.tried[0].experiment
        # A data set is the same to every backbone, but each has caches of its own.
        for backbone in past.settings.backbones:
            on_it = example.model_copy(update={"backbone": backbone})
            cluster.run_on_every_node(trial_resources, prepare_data, on_it.model_dump_json())
        data = cluster.run_where_trials_run(trial_resources, read_data_state, example.model_dump_json())
        used = [past.settings.seed, *(one.experiment.seed for one in past.tried)]
        yield Finals(past, choose(past, top=top), fresh_seeds(used, seeds), trial_resources, data, lease)


def prepare_data(example: str, device: str) -> None:
    """Check the data of an experiment, given as JSON, and build the machine's caches for its backbone."""
    read_data_state(example, device)


def read_data_state(example: str, device: str) -> DataState:
    """Check the data of an experiment, given as JSON, build the machine's caches, and give the hashes of the data."""
    context = context_of(Experiment.model_validate(json.loads(example)), select_device(device))
    _ = context.feature_inputs
    tested = context.prepared.manifest.loc[context.prepared.manifest["subset"] == "test", "identity"]
    return DataState(context.prepared.protocol.manifest_hash, hash_of_test(context.prepared), int(tested.nunique()))

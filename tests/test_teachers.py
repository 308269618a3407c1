"""What several teachers say of the same utterances: small random models, real speech."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from core.config import Ensemble, PrunedStudent, RunConfig
from core.evaluation import MostConfident, Together, confidences, transcribe_set
from core.families.pruning import prune
from core.families.whisper import Whisper, transcribe_together
from core.lora import add_adapters
from core.losses.geodesic import geodesic_loss
from core.losses.soft_labels import soft_labels_loss
from core.mapping import PointMaps
from core.objective import Objective
from core.preflight import all_pairs, ensembles_of, model_problems, pairs_of, point_map_of
from core.sums import means
from core.teacher_outputs import (
    Prepared,
    Teachers,
    prepare_utterances,
    student_signals,
    teacher_statistics,
    teachers_of,
    weighed,
    with_mean_states,
)
from core.training import Lesson, train
from tests.engine import random_whisper, run_config, utterances
from tests.test_training import Notes

CONTEXT = 8.0
CE, KD, GEODESIC = {"kind": "cross_entropy"}, {"kind": "soft_labels", "temperature": 1.0}, {"kind": "geodesic"}


@pytest.fixture(scope="module")
def models() -> tuple[Whisper, ...]:
    # The second is deeper and wider: each teacher has a projection of its own.
    return random_whisper(), random_whisper(encoder_layers=5, width=48, seed=1), random_whisper(seed=2)


@pytest.fixture(scope="module")
def student(models: tuple[Whisper, ...]) -> Whisper:
    return prune(models[0], PrunedStudent(encoder_layers=(0, 1, 3)))


def run(*losses: dict, **changes) -> RunConfig:
    return run_config(method={"losses": list(losses)}, teachers=[{"model": name} for name in "abc"], **changes)


@pytest.fixture(scope="module")
def prepared(models: tuple[Whisper, ...], student: Whisper, tmp_path_factory: pytest.TempPathFactory) -> list[Prepared]:
    return prepare_utterances(
        utterances(tmp_path_factory.mktemp("speech")),
        teachers=models,
        student=student,
        freeze_below=2,
        pairs=all_pairs([run(CE, KD, GEODESIC)], student=student, teachers=models),
        audio_context=CONTEXT,
        keep_teacher_encoder=True,
        batch_size=3,
        advance=lambda count: None,
    )


def learn(config: RunConfig, prepared: list[Prepared], models: tuple[Whisper, ...], student: Whisper) -> Notes:
    wers = (0.3, 0.1, 0.2)[: len(models)]
    statistics = teacher_statistics(prepared)
    teachers, of_states = teachers_of(
        config.ensemble, models=models, statistics=statistics, train=prepared, read=prepared, wers=wers
    )
    adapted = add_adapters(student.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
    notes = Notes()
    train(
        config,
        student=student.with_model(adapted),
        point_map=point_map_of(config, student=student, teachers=models, statistics=of_states),
        lesson=Lesson(
            weighed(prepared, config.ensemble, wers), pairs_of(config, student=student, teachers=models), teachers
        ),
        watcher=notes,
    )
    return notes


@pytest.mark.parametrize("combine", ["mean", "weighted", "best", "single"])
def test_a_student_learns_from_several_teachers_of_any_shape(
    combine: str, prepared: list[Prepared], models: tuple[Whisper, ...], student: Whisper
) -> None:
    notes = learn(run(CE, KD, GEODESIC, ensemble={"combine": combine}), prepared, models, student)
    assert len(notes.values) == 3
    assert all(values["loss/soft_labels"] > 0 and values["loss/geodesic"] > 0 for values in notes.values)


def test_three_times_the_same_teacher_teach_as_one(prepared: list[Prepared], models: tuple[Whisper, ...]) -> None:
    alike = [dataclasses.replace(item, teachers=item.teachers[:1] * 3, weights=(1 / 3,) * 3) for item in prepared]
    together = Teachers((models[0],) * 3).teaching(alike)
    alone = Teachers(models[:1]).teaching([dataclasses.replace(item, weights=(1.0,)) for item in prepared])
    torch.testing.assert_close(
        functional.softmax(together.logits, dim=-1), functional.softmax(alone.logits, dim=-1), atol=1e-6, rtol=1e-4
    )


def test_states_meet_each_teacher_through_a_projection_of_its_own(
    prepared: list[Prepared], models: tuple[Whisper, ...], student: Whisper
) -> None:
    # The term is the weighted sum of what each teacher alone would give.
    config = run(GEODESIC, ensemble={"combine": "weighted", "temperature": 20})
    weights = (0.5, 0.2, 0.3)
    batch = [dataclasses.replace(item, weights=weights) for item in prepared]
    pairs = pairs_of(config, student=student, teachers=models)
    statistics = teacher_statistics(prepared)
    maps = point_map_of(config, student=student, teachers=models, statistics=statistics)
    assert isinstance(maps, PointMaps)
    assert [tuple(each.shape) for each in maps.parameters()] == [(32, 32), (48, 32), (32, 32)]
    mine = student_signals(batch, student, freeze_below=2, with_decoder=True)
    objective = Objective(config.method, point_map=maps, pairs=pairs)
    terms = objective.terms(student=mine, teacher=Teachers(models).teaching(batch), progress=1.0)
    (found,) = means(terms).values()
    expected = torch.tensor(0.0)
    for number, weight in enumerate(weights):
        for side in ("encoder", "decoder"):
            own = [pair for pair in pairs if pair.of == number and pair.side == side]
            for pair in own:
                theirs = torch.cat([item.teachers[number].states[side, pair.teacher] for item in batch])
                aligned = maps(pair, student=getattr(mine, side)[pair.student], teacher=theirs)
                expected = expected + weight * geodesic_loss(*aligned).mean().detach() / len(own)
    torch.testing.assert_close(found.detach(), expected)


def test_the_best_teacher_of_an_utterance_is_the_one_that_finds_its_transcript_likeliest(
    prepared: list[Prepared], models: tuple[Whisper, ...]
) -> None:
    chosen = weighed(prepared, Ensemble(combine="best"), (0.1, 0.1, 0.1))
    signals = Teachers(models).teaching(prepared)
    counts = [len(item.tokens) + 1 for item in prepared]
    targets = torch.cat([torch.tensor([*item.tokens, models[0].end_token]) for item in prepared])
    each = torch.stack(
        [-functional.cross_entropy(speaker.logits, targets, reduction="none") for speaker in signals.speakers]
    )
    likelihoods = [part.sum(dim=1) for part in each.split(counts, dim=1)]
    for item, likelihood in zip(chosen, likelihoods, strict=True):
        assert item.weights.index(1.0) == int(likelihood.argmax())
        assert [heard.log_likelihood for heard in item.teachers] == pytest.approx(likelihood.tolist(), rel=1e-4)


def test_the_mean_of_states_is_the_mean_direction_seen_from_each_mean_state(
    prepared: list[Prepared], models: tuple[Whisper, ...], student: Whisper
) -> None:
    pair = [dataclasses.replace(item, teachers=(item.teachers[0], item.teachers[2])) for item in prepared]
    centres = teacher_statistics(pair)
    alone = with_mean_states(dataclasses.replace(pair[0], weights=(0.0, 1.0)), centres)
    key = ("encoder", 3)
    torch.testing.assert_close(alone.teachers[0].states[key], pair[0].teachers[1].states[key])
    even = with_mean_states(dataclasses.replace(pair[0], weights=(0.5, 0.5)), centres)
    middle = sum(statistics["encoder", 3].mean for statistics in centres) / 2
    directions = [
        functional.normalize(heard.states[key] - statistics["encoder", 3].mean)
        for heard, statistics in zip(pair[0].teachers, centres, strict=True)
    ]
    found = functional.normalize(even.teachers[0].states[key] - middle)
    torch.testing.assert_close(found, functional.normalize(directions[0] + directions[1]), atol=1e-5, rtol=1e-4)
    # One target has one projection, and a run learns from it.
    alike = (models[0], models[2])
    config = run(CE, GEODESIC, ensemble={"states": "mean"})
    assert [each.of for each in pairs_of(config, student=student, teachers=alike)] == [0] * 4
    values = learn(config, pair, alike, student).values
    assert all(step["loss/geodesic"] > 0 for step in values)


def test_teachers_of_different_shapes_have_no_mean_state(models: tuple[Whisper, ...], student: Whisper) -> None:
    config = run(CE, GEODESIC, ensemble={"states": "mean"})
    (problem,) = model_problems(config, student=student, teachers=models)
    assert problem.where == "ensemble.states"
    assert "different shapes" in problem.message


# Decoding


def test_together_with_itself_a_model_writes_what_it_writes_alone(models: tuple[Whisper, ...]) -> None:
    states = torch.randn(2, 50, 32, generator=torch.Generator().manual_seed(0))
    heard = models[0].cross_attention(states)
    alone = models[0].transcribe(heard, token_caps=[6, 4])
    both = transcribe_together([models[0]] * 2, [heard] * 2, weights=(0.5, 0.5), token_caps=[6, 4])
    assert both == alone


def test_every_token_is_that_of_the_mean_probability(models: tuple[Whisper, ...]) -> None:
    # Without a cache, and with the mean taken of probabilities, token by token.
    sides = [models[0], models[2]]
    states = [torch.randn(1, 50, 32, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    heard = [model.cross_attention(own) for model, own in zip(sides, states, strict=True)]
    (text,) = transcribe_together(sides, heard, weights=(0.3, 0.7), token_caps=[5])
    tokens = list(sides[0].prompt)
    with torch.inference_mode():
        for step in range(5):
            mean = torch.zeros(51_864)
            for weight, model, own in zip((0.3, 0.7), sides, states, strict=True):
                last = model.decode(own, torch.tensor([tokens]))[2][:, -1]
                mean += weight * model.head(last)[0].softmax(dim=-1)
            mean[sides[0].suppress if step else sides[0].suppress_first] = 0
            tokens.append(int(mean.argmax()))
    written = sides[0].loaded.tokenizer.decode(tokens[len(sides[0].prompt) :], skip_special_tokens=True)
    assert text == written.strip()


def test_of_several_texts_the_one_counts_of_which_its_teacher_is_surest(
    prepared: list[Prepared], models: tuple[Whisper, ...]
) -> None:
    caps = [5] * len(prepared)
    listener = MostConfident(models)
    heard, seconds = listener.hear(prepared)
    assert seconds > 0
    texts = [model.transcribe(own, token_caps=caps) for model, own in zip(models, heard, strict=True)]
    scores = [confidences(*each) for each in zip(models, heard, texts, strict=True)]
    surest = [max(range(3), key=lambda number: scores[number][row]) for row in range(len(prepared))]
    assert listener.write(heard, caps) == [texts[number][row] for row, number in enumerate(surest)]


def test_an_ensemble_is_measured_like_a_model(prepared: list[Prepared], models: tuple[Whisper, ...]) -> None:
    settings = run_config().evaluation.model_copy(update={"tokens_per_second": 0.5})
    found = transcribe_set(
        prepared,
        listener=Together(models, (0, 1, 2), (0.2, 0.3, 0.5)),
        settings=settings,
        audio_context=CONTEXT,
        advance=lambda count: None,
    )
    assert len(found.hypotheses) == len(found.errors) == len(prepared)
    assert found.seconds > sum(heard.seconds for item in prepared for heard in item.teachers)


# Other token tables


def with_other_tokens(whisper: Whisper) -> Whisper:
    """Return a model whose table has the same words under other numbers."""
    tokenizer = whisper.loaded.tokenizer

    class Shifted:
        def get_vocab(self) -> dict[str, int]:
            return {token: (number + 1) % 51_864 for token, number in tokenizer.get_vocab().items()}

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [1 + number for number in tokenizer.encode(text, add_special_tokens=False)] + [7]

        def __getattr__(self, name: str):
            return getattr(tokenizer, name)

    loaded = dataclasses.replace(whisper.loaded, tokenizer=Shifted())  # pyright: ignore[reportArgumentType]
    return Whisper(loaded, language="en", model=whisper.model)


def test_a_teacher_with_another_token_table_teaches_states_and_words_but_no_distribution(
    models: tuple[Whisper, ...], student: Whisper, tmp_path: Path
) -> None:
    teachers = (models[0], with_other_tokens(models[2]))
    config = run_config(method={"losses": [CE, KD]}, teachers=[{"model": "one"}, {"model": "row:other words"}])
    (problem,) = model_problems(config, student=student, teachers=teachers)
    assert problem.where == "method.losses.1"
    assert problem.message == (
        "soft_labels compares the teacher 'other words' and student token by token, but their token tables differ "
        "(0 of 51,864 tokens have the same id): choose a pair with one table, or learn from encoder states or the "
        "teacher's transcripts only"
    )
    pseudo = run_config(method={"losses": [CE], "transcripts": "teacher"}, teachers=[{"model": "a"}, {"model": "b"}])
    frames = run_config(method={"losses": [CE, {**GEODESIC, "decoder": False}]}, teachers=[{"model": "a"}] * 2)
    assert model_problems(pseudo, student=student, teachers=teachers) == []
    assert model_problems(frames, student=student, teachers=teachers) == []
    # It reads the texts in its own tokens, its decoder meets nobody, and its frames are those of the student.
    pairs = pairs_of(frames, student=student, teachers=teachers)
    assert {pair.side for pair in pairs if pair.of == 1} == {"encoder"}
    prepared = prepare_utterances(
        utterances(tmp_path, train=2),
        teachers=teachers,
        student=student,
        freeze_below=2,
        pairs=pairs,
        audio_context=CONTEXT,
        keep_teacher_encoder=True,
        batch_size=2,
        advance=lambda count: None,
    )
    for item in prepared:
        one, other = (heard.states for heard in item.teachers)
        assert len(other["decoder", 2]) == len(one["decoder", 2]) + 1
        assert len(other["encoder", 3]) == len(one["encoder", 3])
    notes = learn(frames, prepared, teachers, student)
    assert notes.values[-1]["loss/geodesic"] > 0
    # No mean of probabilities, but each may write, and the surest counts.
    named = [config.model_copy(update={"ensemble": Ensemble(combine=how)}) for how in ("mean", "weighted", "best")]
    assert [each.combine for each in ensembles_of(named, teachers=teachers)] == ["best"]
    said = MostConfident(teachers).write(MostConfident(teachers).hear(prepared)[0], [4, 4])
    assert len(said) == 2


def test_the_losses_read_the_mean_distribution(
    prepared: list[Prepared], models: tuple[Whisper, ...], student: Whisper
) -> None:
    config = run(KD)
    mine = student_signals(prepared, student, freeze_below=2, with_decoder=True)
    teaching = Teachers(models).teaching(prepared)
    mean = torch.stack([speaker.logits.softmax(dim=-1) for speaker in teaching.speakers]).mean(dim=0)
    objective = Objective(config.method, point_map=point_map_of(config, student=student, teachers=models), pairs=())
    (found,) = means(objective.terms(student=mine, teacher=teaching, progress=1.0)).values()
    torch.testing.assert_close(found, soft_labels_loss(mine.logits, mean.log(), temperature=1.0).mean())

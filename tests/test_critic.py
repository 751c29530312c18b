"""Questions, answers and the judge; the tiny world's critic."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from byg_train.config import ConfigError
from byg_train.core.critic import Ask, Question, answer_loss
from byg_train.critics.judge import EditJudge
from byg_train.critics.questions import TEMPLATES, question_maker, removed_object
from byg_train.critics.tiny import Judged, TinyCritic
from byg_train.media.pixels import to_batch
from byg_train.world.names import HELD_OUT
from byg_train.world.scenes import EDITED, draw, random_edit

# ---------------------------------------------------------------- questions


@pytest.mark.parametrize(
    ("instruction", "gone"),
    [
        ("remove the small star at the top left", "small star"),
        ("Remove all people from the street.", "people"),
        ("please erase a red car", "red car"),
        ("delete the sign that says STOP", "sign"),
        ("Get rid of the dog", "dog"),
        ("paint the car red", None),
        ("", None),
    ],
)
def test_what_goes_is_read_from_the_instruction(instruction: str, gone: str | None) -> None:
    assert removed_object(instruction) == gone


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_removal_asks_for_no_of_the_edit_alone(name: str) -> None:
    asks = [Ask("paint the star red", "color_change"), Ask("remove the small star", "remove")]
    questions = question_maker(name)(asks)
    assert [(q.row, q.kind) for q in questions] == [
        (0, "edit"), (0, "identity"), (1, "edit"), (1, "identity")]  # fmt: skip
    assert [q.answer for q in questions] == [True, True, False, True]
    assert [q.sees_source for q in questions] == [True, True, False, True]
    assert "paint the star red" in questions[0].text and "small star" in questions[2].text
    assert "remove" not in questions[2].text
    assert all("{" not in q.text for q in questions)
    # What goes cannot be told: the usual question, whose right answer is yes.
    (vague, _) = question_maker(name)([Ask("make the sky empty", "remove")])
    assert vague.answer and vague.sees_source and "make the sky empty" in vague.text


def test_types_have_questions_of_their_own_and_others_the_usual_ones() -> None:
    def identity(kind: str) -> str:
        return question_maker("questions")([Ask("do it", kind)])[1].text

    own = {identity(kind) for kind in ("style_change", "background_change", "add", "pose_change")}
    assert len(own) == 4 and identity("replace") == identity("") not in own
    assert len(question_maker("questions", identity=False)([Ask("do it")])) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[usual]\nedit.text = 'a'", "no identity"),
        ("[usual]\nedit.text = ' '\nidentity.text = 'a'", "edit.text is missing"),
        ("[usual]\nedit.text = 'a'\nidentity.text = 'b'\nidentity.answer = 'maybe'", "answer is"),
        ("[usual]\nedit.text = 'a'\nidentity.text = 'b'\n[add]\nsame.text = 'c'", "wanted edit or"),
        ("[usual]\nedit.text = 'a'\nidentity.text = 'b'\nedit.frames = 2", "unknown frames"),
    ],
)
def test_a_file_that_cannot_be_asked_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        question_maker(str(file))


# ---------------------------------------------------------------- answers


def test_the_loss_is_over_the_two_answers_alone() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, 2.0], [-5.0, -5.0]])
    questions = [Question(0, "edit", "", answer) for answer in (True, False, True)]
    wanted = -torch.stack([*torch.tensor([2.0, -2.0]).sigmoid().log(), torch.tensor(0.5).log()])
    torch.testing.assert_close(answer_loss(logits, questions), wanted)
    assert torch.equal(answer_loss(logits + 100, questions), answer_loss(logits, questions))


class Sure:
    """Says yes by how bright the edit is; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def __call__(self, source: Tensor, edited: Tensor, questions: Sequence[Question]) -> Tensor:
        self.asked = list(questions)
        light = torch.stack([edited[q.row].mean() - source[q.row].mean() for q in questions])
        return torch.stack([-light, light], 1)


def test_the_judge_decodes_asks_and_sorts_the_answers() -> None:
    critic, asks = (
        Sure(),
        [Ask("a", "add"), Ask("do nothing.", "nothing"), Ask("remove b", "remove")],
    )
    judge = EditJudge(critic, question_maker("world"), lambda z: 2 * z, torch.device("cpu"))
    source = torch.zeros(3, 3, 1, 4, 4, requires_grad=True)
    edited = torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1, 1).expand_as(source).clone()
    edited.requires_grad_()
    found = judge(source, edited, asks)
    assert [(q.row, q.kind) for q in critic.asked] == [
        (0, "edit"), (0, "identity"), (1, "identity"), (2, "edit"), (2, "identity")]  # fmt: skip
    margin = torch.tensor([2.0, 4.0, 8.0])  # yes - no is twice the light, which is doubled
    yes, no = -logsigmoid(margin), -logsigmoid(-margin)
    wanted = {"edit": [yes[0], 0.0, no[2]], "identity": yes}
    for kind, values in wanted.items():
        torch.testing.assert_close(found[kind], torch.as_tensor(values))
    found["edit"].sum().backward()
    assert source.grad is None
    light = edited.grad.mean((1, 2, 3, 4))
    assert light[0] < 0 < light[2] and light[1] == 0  # it wants the first brighter, the last darker


def test_a_batch_that_is_asked_nothing_still_has_both_answers() -> None:
    judge = EditJudge(Sure(), question_maker("world"), lambda z: z, torch.device("cpu"))
    edited = torch.ones(1, 3, 1, 4, 4, requires_grad=True)
    found = judge(edited.detach(), edited, [Ask("do nothing.", "nothing")])
    assert found["edit"].tolist() == [0] and found["identity"].item() > 0
    alone = EditJudge(
        Sure(), question_maker("world", identity=False), lambda z: z, torch.device("cpu")
    )
    (nothing,) = alone(edited.detach(), edited, [Ask("do nothing.", "nothing")]).values()
    nothing.sum().backward()
    assert not nothing.any() and not edited.grad.any()


# ---------------------------------------------------------------- the tiny critic

WORDS = {
    "style": ["3d", "flat", "ink"],
    "tint": ["", "red", "blue"],
    "ground": ["red", "green", "orange"],
    "pattern": ["plain", "striped"],
    "extra": ["", "star", "key"],
    "corner": ["top left", "top right"],
}


def probabilities(**words: str) -> dict[str, Tensor]:
    """Of one picture: what is told is 0.8 likely, the rest shares what is left."""
    found = {}
    for what, own in WORDS.items():
        p = torch.full((1, len(own)), 0.2 / (len(own) - 1))
        p[0, own.index(words.get(what, own[0]))] = 0.8
        found[what] = p.log()
    return found


@pytest.fixture
def critic() -> TinyCritic:
    torch.manual_seed(0)
    return TinyCritic(WORDS).eval()


def test_a_tiny_critic_is_the_same_from_its_file(critic: TinyCritic, tmp_path: Path) -> None:
    pixels = 2 * torch.rand(2, 2, 3, 1, 48, 48) - 1
    for p in critic.parameters():
        p.data = p.data.half().float()
    critic.save(tmp_path / "critic.safetensors")
    again = TinyCritic.load(tmp_path / "critic.safetensors")
    questions = question_maker("world")(
        [Ask("remove the small star at the top left", "remove"), Ask("paint the cat red")]
    )
    logits = again(*pixels, questions)
    assert torch.equal(logits, critic(*pixels, questions)) and logits.shape == (4, 2)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(4))  # p(no) + p(yes)
    assert not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("background to a green striped ground", {"ground": "green", "pattern": "striped"}),
        ("change the background to an orange ground", {"ground": "orange", "pattern": "plain"}),
        ("turn the 3d render into an ink drawing", {"style": "ink"}),
        ("the ink drawing into a 3d render with a red subject", {"style": "3d", "tint": "red"}),
        ("paint the croissant blue", {"tint": "blue"}),
        ("add a small key at the top right", {"extra": "key", "corner": "top right"}),
        ("replace the small star with a small key", {"extra": "key"}),
        ("remove the small star at the top left", {"corner": "top left"}),
        ("do nothing.", {}),
    ],
)  # fmt: skip
def test_an_instruction_tells_what_is_asked_for(
    critic: TinyCritic, text: str, told: dict[str, str]
) -> None:
    assert critic.told(f"done ? {text}") == told


@pytest.mark.parametrize("text", ["make it nicer", "add a small xylophone at the top left"])
def test_what_it_cannot_answer_is_refused(critic: TinyCritic, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        critic.told(text)


def said(
    critic: TinyCritic,
    monkeypatch: pytest.MonkeyPatch,
    question: Question,
    before: dict,
    after: dict,
) -> float:
    """p(yes) of a critic that sees these words in the source and in the edit, and one subject."""
    name = torch.eye(48)[:1]
    seen = iter([Judged(probabilities(**before), name), Judged(probabilities(**after), name)])
    monkeypatch.setattr(critic, "judged", lambda pixels: next(seen))
    return critic(torch.zeros(1), torch.zeros(1), [question])[0, 1].exp().item()


def test_an_edit_is_done_where_all_that_was_told_is_seen(
    critic: TinyCritic, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Question(0, "edit", "done ? change the background to a green striped ground")
    both = {"ground": "green", "pattern": "striped"}
    assert said(critic, monkeypatch, ask, {}, both) == pytest.approx(0.8 * 0.8)
    assert said(critic, monkeypatch, ask, both, {"ground": "green"}) == pytest.approx(0.8 * 0.2)
    there = Question(0, "edit", "there ? small star", answer=False, sees_source=False)
    assert said(critic, monkeypatch, there, {}, {"extra": "star"}) == pytest.approx(0.8)


def test_all_else_is_the_same_but_for_what_is_told(
    critic: TinyCritic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same(text: str, **after: str) -> float:
        ask, before = Question(0, "identity", f"same ? {text}"), {"extra": "star"}
        return said(critic, monkeypatch, ask, before, {**before, **after})

    best = torch.sigmoid(critic.alike[0] * (1 - critic.alike[1])).item()
    ground = "change the background to a green ground"
    assert same(ground) == pytest.approx(best)  # equal judgements are the same, however unsure
    assert same(ground, ground="green", pattern="striped") == pytest.approx(best)
    for after in ({"style": "ink"}, {"tint": "red"}, {"extra": "key"}, {"corner": "top right"}):
        assert same(ground, **after) < 0.95 * best, after
    drawn = "turn the 3d render into an ink drawing"
    assert same(drawn, style="ink", tint="red") == pytest.approx(best)
    assert same(drawn, style="ink", ground="green") < 0.95 * best
    gone = "remove the small star at the top left"
    assert same(gone, extra="", corner="top right") == pytest.approx(best)
    assert same("replace the small star with a small key", extra="key") == pytest.approx(best)
    assert same("replace the small star with a small key", corner="top right") < 0.95 * best
    assert same("do nothing.", ground="green") < 0.95 * best


def test_another_subject_is_not_the_same(
    critic: TinyCritic, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = [Question(0, "identity", "same ? paint the cat red")]
    seen = iter(
        [Judged(probabilities(), torch.eye(48)[:1]), Judged(probabilities(), torch.eye(48)[1:2])]
    )
    monkeypatch.setattr(critic, "judged", lambda pixels: next(seen))
    assert critic(torch.zeros(1), torch.zeros(1), ask)[0, 1].exp().item() < 0.1


def test_sizes_other_than_its_own_and_clips_are_looked_at(critic: TinyCritic) -> None:
    pixels = (2 * torch.rand(2, 1, 3, 5, 40, 56) - 1).requires_grad_()
    questions = question_maker("world")([Ask("paint the cat red")])
    critic(*pixels, questions)[:, 1].sum().backward()
    assert not pixels.grad[0].any()  # the source teaches nothing
    assert pixels.grad[1, :, :, 2].abs().sum() > 0
    assert not pixels.grad[1, :, :, [0, 1, 3, 4]].any()


def test_the_shipped_critic_knows_an_edit_from_none() -> None:
    """On names that it never saw: of edits that are done, and of sources left as they were."""
    critic, ask, rng = TinyCritic.load(), question_maker("world"), random.Random(3)
    edits = [random_edit(rng, kind, HELD_OUT) for kind in EDITED for _ in range(8)]
    questions = ask([Ask(edit.instruction, edit.edit_type) for edit in edits])
    source, done = (
        to_batch([draw(scene)[None] for scene in scenes])
        for scenes in ([e.source for e in edits], [e.target for e in edits])
    )
    right = {"edit": [], "identity": []}
    for result, is_done in ((done, True), (source, False)):
        logits = critic(source, result, questions)
        for q, yes in zip(questions, (logits[:, 1] > logits[:, 0]).tolist(), strict=True):
            wanted = q.answer == is_done if q.kind == "edit" else True
            right[q.kind].append(yes == wanted)
    assert all(sum(ok) > 0.9 * len(ok) for ok in right.values()), right

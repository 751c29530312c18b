"""`evaluate score --vlm`: a judge in this process, which is a tiny vision-language model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from edit_folders import NAMES, evaluate, make_tasks
from transformers import AutoTokenizer, GenerationConfig

ANSWER = "[8,6]"


def made_to_say(model: Path, answer: str) -> None:
    """Have random weights give an answer: every token of it, all different, calls for the next."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
    pairs = [[[now, then], 1e6] for now, then in zip(ids, ids[1:], strict=False)]
    GenerationConfig(
        sequence_bias=[[[ids[0]], 1e3], *pairs],
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(model)


@pytest.mark.slow
def test_a_model_in_this_process_judges(vlm: Path, tmp_path: Path) -> None:
    make_tasks(tmp_path)
    model = shutil.copytree(vlm, tmp_path / "vlm")
    made_to_say(model, ANSWER)

    def score(max_tokens: int) -> tuple[str, dict]:
        done = evaluate(
            "score", tmp_path / "first", "--sources", tmp_path / "tasks", "--metrics", "viescore",
            "--vlm", model, "--max-tokens", max_tokens, "--json", tmp_path / "out.json",
            "--device", "cpu",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        return done.output, json.loads((tmp_path / "out.json").read_text())["first"]["all"]

    said = tmp_path / "first/judge.jsonl"
    output, told = score(len(ANSWER))  # too few: no room for its end
    assert "first: 6 answers were too long, and cut" in output and not said.exists()
    assert [summary["missing"] for summary in told.values()] == [3] * 5
    _, told = score(16)
    means = {column: round(summary["mean"], 6) for column, summary in told.items()}
    assert means == {"success": 8, "kept": 6, "SC": 6, "PQ": 6, "overall": 6}
    answers = [json.loads(line)["answer"] for line in said.read_text().splitlines()]
    assert answers == [ANSWER] * 2 * len(NAMES)
    assert score(16)[1] == told and len(said.read_text().splitlines()) == len(answers)

"""The tiny world's tokenizers, made from what its captions and instructions can say."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, Qwen2Tokenizer, T5TokenizerFast

from byg_train.world.names import KNOWN
from byg_train.world.scenes import EDIT_TYPES, Edit, caption, random_edit

TEXT_LEN, CLIP_LEN = 24, 32


def corpus(
    rng: random.Random, lines: int = 20_000, draw_lot: Callable[..., Edit] = random_edit
) -> list[str]:
    """Captions and instructions about known subjects; held-out names stay unknown words."""
    texts = []
    for i in range(lines):
        edit = draw_lot(rng, EDIT_TYPES[i % len(EDIT_TYPES)], KNOWN)
        texts += [caption(edit.source), edit.instruction, edit.reverse_instruction]
    return [*texts, "a 3d render of an object on a blue ground"]


def training_caption(caption: Callable[..., str], scene: object, rng: random.Random) -> str:
    """What a base is told of a scene or clip: mostly all of it, by `caption(scene)`."""
    lot = rng.random()
    if lot < 0.1:  # the empty caption, for classifier-free guidance
        return ""
    if lot < 0.15:  # names the base has no word for: "object", or letters
        return caption(scene, "object")
    if lot < 0.2:
        return caption(scene, "".join(rng.choices("abcdefghiklmnoprstuvw", k=5)))
    return caption(scene)


def build_tokenizers(texts: list[str]) -> tuple[CLIPTokenizer, T5TokenizerFast]:
    """A byte-pair CLIP tokenizer and a unigram T5 tokenizer in which each known word is a piece."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=4000, end_of_word_suffix="</w>", show_progress=False)
    )
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) for m in model["merges"]]
    pieces = [*alphabet, *(a + "</w>" for a in alphabet), *("".join(m) for m in merges)]
    pieces = list(dict.fromkeys([*pieces, "<|startoftext|>", "<|endoftext|>"]))
    clip = CLIPTokenizer(
        vocab={p: i for i, p in enumerate(pieces)}, merges=merges, model_max_length=CLIP_LEN
    )
    words = sorted({w for t in texts for w in t.split()})
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -10.0)]
    vocab += [(f"▁{w}", -5.0) for w in words]
    return clip, T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=TEXT_LEN)


# Qwen3's, of one instruction, before the answer.
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_qwen_tokenizer(texts: list[str]) -> Qwen2Tokenizer:
    """A byte-pair tokenizer in which each known word is a piece, with Qwen3's chat template."""
    tokenizer = Qwen2Tokenizer(extra_special_tokens=["<|im_start|>", "<|im_end|>"])
    tokenizer = tokenizer.train_new_from_iterator(
        [f"user\n{text}\nassistant\n" for text in texts], vocab_size=4000, show_progress=False
    )
    tokenizer.chat_template = CHAT
    return tokenizer

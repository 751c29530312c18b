"""The prompts of appendix D, in our own words, since the paper prints none."""

from __future__ import annotations

from collections.abc import Sequence

from .edit_types import EDIT_TYPES, Offer, is_photo

EDIT = """\
You write training data for a model that edits pictures. Look at the picture and invent exactly
one edit of it.

{choice}

The edit must be central (it changes a prominent object or the whole background) and distinct
(anyone sees the difference at a glance). All else stays as it is.
{known}
Answer with one JSON object and nothing else. It has these five fields, all of them texts:
{{
  "edit_type": {types},
  "src_caption": "the picture as it is",
  "instruction": "the order to edit it",
  "tgt_caption": "the picture after the edit",
  "reverse_instruction": "the order that edits it back"
}}

Rules:
- Write English. Put lettering of the picture into single quotes: a sign that says 'OPEN'.
- src_caption: one or two sentences, at most 60 words, on what is seen. If the picture is no
  photograph, name its style ("an oil painting of a harbour").
- instruction: one short order that names what it changes ("Paint the car blue"). It speaks of the
  picture, never of a caption.
- tgt_caption: describes only the edited picture, as if there had never been another; where
  nothing changes, in the words of src_caption. No words of time or change: never "now", "changed
  to", "has been", "no longer", "becomes", "turned into". Say what is there, not what is missing:
  avoid "without", "no", "not". An object that was removed is not mentioned.
- reverse_instruction: one short order that brings the edited picture to look as this one does.
  Its reader sees nothing but the edited picture, so it says in full what to do ("Paint the car
  red"; "Put a brown dog on the left end of the sofa"). Never "restore", "revert", "undo",
  "original", "previous", "back to", "as before".
- src_caption and tgt_caption differ."""

CHOICE = """\
Choose the edit type that suits this picture best. Only these are allowed:
{types}"""
TO_PHOTO = """\
The edit type is style_change: the picture is not a photograph, and the edit turns it into a
photorealistic one. tgt_caption describes a photograph, and reverse_instruction names the style
that the picture has."""

CLIP = """\
These are frames of one video clip, in order. Describe the clip: who and what is seen, where, and
what moves or happens, in two to four sentences, at most 80 words, in English. Describe the clip,
not the frames; begin with what is seen, not with "the video shows".

Answer with one JSON object and nothing else:
{fields}"""
CAPTION_FIELD = '  "caption": "the description"'
STYLE_FIELD = '  "style": the style that comes nearest to how the clip looks, one of {styles}'

CLEAN = """\
Below is the description of a video clip. Take every hint of its visual style out of it: words
such as cartoon, animated, 3D, CGI, anime, drawn, painted, photo-realistic, live-action,
cinematic, film, render, and how it was made. What is seen and what happens stays, in the same
words where possible, as a description from which one could draw the clip in any style.

Description:
{caption}

Answer with one JSON object and nothing else:
{{
  "caption": "the description without any style"
}}"""

AGAIN = "\n\nAn earlier answer could not be used: {problem}. Answer once more, and mind this."


def edit_prompt(offer: Offer, caption: str, style: str) -> str:
    """The prompt of D.1 about one picture, with what is known about it."""
    meanings = {name: EDIT_TYPES[name].meaning for name in offer.types}
    if "style_change" in meanings:
        meanings["style_change"] += f", one of: {', '.join(offer.styles)}"
    types = "\n".join(f"- {name}: {meaning}" for name, meaning in meanings.items())
    known = []
    if not is_photo(style):
        known.append(f"The picture's style: {style}. src_caption names it.")
    if caption:
        known.append(f"A caption that came with it, to be checked against the picture: {caption}")
    return EDIT.format(
        choice=TO_PHOTO if offer.to_photo else CHOICE.format(types=types),
        known="".join(f"\n{line}\n" for line in known),
        types=" or ".join(f'"{name}"' for name in offer.types),
    )


def clip_prompt(styles: Sequence[str]) -> str:
    """The prompt about the frames of a clip; `styles` is empty if its style is known."""
    fields = [CAPTION_FIELD]
    if styles:
        fields.append(STYLE_FIELD.format(styles=", ".join(f'"{style}"' for style in styles)))
    return CLIP.format(fields="{\n" + ",\n".join(fields) + "\n}")


def clean_prompt(caption: str) -> str:
    """The text-only prompt of D.2, step 2."""
    return CLEAN.format(caption=caption)


def again(prompt: str, problem: str) -> str:
    """A prompt asked again, with what was wrong with the last answer."""
    return prompt + AGAIN.format(problem=problem)

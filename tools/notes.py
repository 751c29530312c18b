"""What stands beside the graphs, in the artist's words."""

from __future__ import annotations

from .canvas import Model

LORA_STEP = (
    "Put the file that `byg_train` wrote into `models/loras`, press **R** and choose it in *ByG "
    "Loader*. A LoRA that does not fit the model stops with a message."
)
SAY = (
    'Say what to **do**, as in training ("Turn the picture into ..."), not what the result shows. '
    "After a run the report under *ByG Loader* lists examples."
)
SAY_OF_CLIPS = SAY.replace("Turn the picture into", "Turn the video to")
KNOBS = """**Too weak?** `strength` 1.1 to 1.3, or another seed.
**Source lost?** `strength` 0.8.
`cfg` stays 1, `denoise` stays 1: guidance, size and schedule come from the LoRA."""
Z_KNOBS = """**Too weak?** `strength` 1.1 to 1.3, or another seed.
**Source lost?** `strength` 0.8.
`steps` and `cfg`: what the report under *ByG Loader* says. `denoise` stays 1.
**Another shift?** *ModelSamplingAuraFlow* behind *ByG Loader*, never *ModelSamplingSD3*."""
STEPS_OF_OTHERS = (
    "Made for pictures from text, and not together with your LoRA: compare with the full graph "
    "before you trust it. Details get coarser."
)
OWN_FEW_STEPS = (
    "**Was your LoRA itself trained for few steps?** Then the report under *ByG Loader* says so "
    '("4 steps, lcm"): bypass the second one, and set `steps` and `sampler_name` as it says.'
)
LOADERS = (
    "**Less memory?** `weight_dtype` *fp8_e4m3fn* in *Load Diffusion Model*, or a GGUF file with "
    "*Unet Loader (GGUF)* of ComfyUI-GGUF in its place; *ByG Loader* takes the model of either."
)
WAN_KNOBS = """**Too weak?** `strength` 1.1 to 1.3, or another seed.
**Out of memory?** A smaller `length` first, then a smaller size: the source doubles the work."""
LONGER = (
    "**Longer than 81 frames?** *WAN Context Windows* behind *ByG Loader*, as in "
    "*byg_wan22_long_video*."
)
TINY_WARNING = (
    "It is a toy of a few million parameters: it shows how the nodes work, not how well ByG edits. "
    "Pictures are 48 pixels wide."
)
FETCHED = "(Installed from ComfyUI's registry, the first run fetches the models, 33 MB.)"

IMAGE = f"""# Edit a picture

1. **Models**: choose the files; links are below.
2. **LoRA**: {LORA_STEP}
3. **Picture**: of any size. Nothing is cropped, and the result has exactly its size.
4. **Instruction**: {SAY}
5. **Run.**

{KNOBS}
{LOADERS}"""

FEW_STEPS = f"""# Edit a picture in 8 steps

The graph of *byg_flux_image_edit* with a second LoRA behind yours: *Hyper-FLUX*, at 0.125.

1. Choose models, your LoRA and a picture as in *byg_flux_image_edit*; the link to *Hyper-FLUX* is \
below. Any other turbo LoRA for FLUX.1-dev goes in its place; mind its strength and steps.
2. **Run.** To switch it off, select *LoraLoaderModelOnly*, press **Ctrl+B** (bypass), and set \
`steps` of the *KSampler* to 20.

{OWN_FEW_STEPS}

{STEPS_OF_OTHERS}

{KNOBS}
{LOADERS}"""

MASK = f"""# Edit inside a mask

1. Choose models, your LoRA and a picture as in *byg_flux_image_edit*.
2. **Right-click the picture → Open in MaskEditor**, paint what may change, save. Without a mask \
the run stops and says so.
3. Paint a little **larger** than the object: an edit that crosses the edge shows a seam.
4. **Run.** Outside of the mask *ByG Finish* returns the picture's own pixels, to the bit.

`size_mode` *around the mask*: only that part is edited, at the size of the training, and put back \
into the picture at its full size, be it 8000 pixels wide. `context` shows the model more around it.

`feather` softens the edge inwards. {KNOBS}"""

FOLDER = f"""# Convert a folder

1. Put pictures into a folder under `ComfyUI/input`, press **R**, choose it in *Load Image \
Dataset from Folder*. They may differ in size.
2. **LoRA**: {LORA_STEP}
3. **Run** once: each node works through all pictures before the next one starts. Results stand \
in `output/ByG`, numbered.

Nothing is saved before the last picture is sampled, so take some tens of pictures at a time. All \
get the same seed. To try an instruction first, use *byg_flux_image_edit*. The folder's node is \
part of ComfyUI from 0.3.75 on."""

CYCLE = f"""# There and back: does the source survive?

The picture is edited, and the result is edited **back** with the opposite instruction. A LoRA \
that really edits comes home: what differs between *source* and *back again* was lost on the way.

1. Choose models, your LoRA and a picture as in *byg_flux_image_edit*.
2. Write an instruction and its opposite. The opposite speaks of the **edited** picture ("Turn \
the picture into photo style"), not of the original.
3. **Run.** In *difference x4* black is unchanged; a faint pattern everywhere is the VAE.

{KNOBS}"""

DEBUG = """# Look over the model's shoulder

*ByG Debug* stands where *SamplerCustomAdvanced* would and gives the same result, to the bit. At \
the noise levels in `at` it also shows what the model makes of the noisy picture in **one \
step**, beside what **many steps** make of it.

1. Choose models, your LoRA and a picture as in *byg_flux_image_edit*.
2. Describe the source and the wanted result in words (the two captions): the report then says \
whether the edit goes where they point.
3. **Run**, and read the report.

**IDENTITY COLLAPSE**: the result is the source. **DRIFT**: little of the source is left. **LORA \
HAS NO EFFECT**: it is not on this model. *no alarm* is no proof of quality: look at the pictures.

Captions and base model cost two evaluations more for each level. Delete their links to save \
them."""

Z_IMAGE = f"""# Edit a picture with Z-Image

Z-Image takes a picture to edit from **ComfyUI 0.11.0** on; *ByG Loader* says so in an older one.

1. **Models**: choose the files; links are below. *Load CLIP* has the type `lumina2`.
2. **LoRA**: {LORA_STEP}
3. **Picture**: of any size. Nothing is cropped, and the result has exactly its size.
4. **Instruction**: {SAY}
5. **Run.**

{Z_KNOBS}"""

Z_MASK = MASK.replace("byg_flux_image_edit", "byg_z_image_edit").replace(KNOBS, Z_KNOBS)
Z_FOLDER = FOLDER.replace("byg_flux_image_edit", "byg_z_image_edit")
Z_DEBUG = DEBUG.replace("byg_flux_image_edit", "byg_z_image_edit")

Z_TURBO = """# Edit with Z-Image-Turbo: an experiment

A LoRA of Z-Image on its distilled sibling: 8 steps at cfg 1 in place of 25 at 4. **Nobody has \
measured how well it edits**; *byg_z_image_edit* is what the LoRA was trained for.

1. **Models**: Z-Image-Turbo; links are below.
2. **LoRA**, **picture**, **instruction** as in *byg_z_image_edit*. A LoRA of the base fits: both \
networks have the same layers.
3. **Run.** Is the edit weak? `strength` 1.3. Does the picture fall apart? Take the base."""

VIDEO = f"""# Edit a clip with Wan 2.2 14B

1. **Models**: both networks; links are below.
2. **LoRA**: copy **both** files that `byg_train` wrote, `..._high_noise` and `..._low_noise`, \
into `models/loras`, press **R**, choose the high one. *ByG Loader* finds the other. Only one was \
trained? Choose that, and `lora_low_name` *single expert*.
3. **Clip**: choose it in *Load Video*. Size, length, rate and sound come back as they were.
4. **Instruction**: {SAY_OF_CLIPS}
5. **Run.** *ByG Expert Split* gives both samplers the step at which the second network takes over.

{WAN_KNOBS}
{LONGER} **In a hurry?** *byg_wan22_few_steps*.
{LOADERS}"""

VIDEO_FEW_STEPS = f"""# Edit a clip in 4 steps

The graph of *byg_wan22_video_edit* with a *Lightning* LoRA behind each of yours: 4 steps, \
`cfg` 1, *euler*, and its own shift of 5 in *ModelSamplingSD3*, which has the last word over *ByG \
Loader*.

1. Choose models, your LoRAs and a clip as in *byg_wan22_video_edit*; links are below.
2. **Run.** *ByG Expert Split* reads the shift from the model behind *ModelSamplingSD3*: two steps \
for either network.
3. To switch it off, bypass (**Ctrl+B**) both *LoraLoaderModelOnly* and both *ModelSamplingSD3*, \
and set 40 steps, `cfg` 4 and 3, *uni_pc*.

{OWN_FEW_STEPS}

{STEPS_OF_OTHERS} At `cfg` 1 the negative text does nothing.

{WAN_KNOBS}
{LONGER}
{LOADERS}"""

LONG_VIDEO = f"""# Edit a whole film

The graph of *byg_wan22_video_edit* for any length: `length` 0 takes all frames, and *WAN Context \
Windows* behind each model sample 81 at a time, with 30 in common; each window sees its own part \
of the source. A clip that fits into one window is sampled as without them.

1. Choose models, your LoRAs and a film as in *byg_wan22_video_edit*.
2. **Run.** It takes as long as all its windows together; memory is that of one, but all frames \
are in RAM, some times over: a minute of 832 x 480 has 4.6 GB.
3. Cut at changes of scene first (`start_frame`, `length`): a window across a cut mixes two scenes.

More `context_overlap` hides the seams better. {WAN_KNOBS}
{LOADERS}"""

VIDEO_5B = f"""# Edit a clip with Wan 2.2 5B

The small Wan is one network, so there is one LoRA and one sampler.

1. **Models**: choose the files; links are below. This Wan has a VAE of its own.
2. **LoRA**: {LORA_STEP}
3. **Clip**: choose it in *Load Video*. Size, length, rate and sound come back as they were.
4. **Instruction**: {SAY_OF_CLIPS}
5. **Run.**

{WAN_KNOBS}
{LONGER}
**A mask?** Connect it to *ByG Finish*: this Wan cannot sample inside one."""

VIDEO_DEBUG = f"""# Look over Wan's shoulder

*ByG Debug* stands where two *SamplerCustomAdvanced* would and gives the same clip, to the bit. \
It shows the middle frame at the noise levels in `at`, one step beside many, and a strip of frames.

1. Choose models, your LoRA and a clip as in *byg_wan22_video_edit*.
2. Describe the clip and the wanted result in words (the two captions).
3. **Run**, and read the report.

`frame` chooses another frame. Base models and captions cost two evaluations more for each \
level; delete their links to save them.

{WAN_KNOBS}
{LONGER}"""

TINY_IMAGE = f"""# Try ByG now

Models, LoRA and picture are ByG's own, and a CPU needs seconds. **Press Run.** {FETCHED}

- `style` and `subject` choose the example picture.
- The LoRA also removes and adds small things ("add a small sun at the bottom right"), changes the \
ground ("change the background to a red striped ground") and paints the subject ("paint the fox \
blue", not for ink drawings). From render to ink drawing it mostly fails.
- Ink drawings have no colour, so say which one the render gets.

{TINY_WARNING}

For real pictures open *byg_flux_image_edit*."""

TINY_VIDEO = f"""# Edit a clip now

Two small Wan networks of ByG's own, and a LoRA for each, on a CPU. **Press Run.** {FETCHED}

- `style` and `subject` choose the example clip.
- *ByG Instruction* lists what LoRAs were taught.
- The graph is that of *byg_wan22_video_edit*, with the loaders swapped.

{TINY_WARNING}"""

TINY_DEBUG = f"""# Look over a small model's shoulder

*ByG Debug* stands where *SamplerCustomAdvanced* would. At the noise levels in `at` it shows the \
noisy state, what the model makes of it in **one step**, and what **many steps** make of it. \
**Press Run**, and read the report under the grid.

{TINY_WARNING}

*byg_flux_debug* is the same for FLUX.1-dev, and says what its alarms mean."""

TINY_FEW_STEPS = f"""# Four steps in place of twelve

*ByG Few Steps* gives *SamplerCustomAdvanced* noise, sampler and schedule: it guesses the result, \
adds **fresh** noise, and guesses again. **Press Run.** {FETCHED}

- The LoRA here was not trained for few steps, so `steps` says 4, and the node says that it was \
not. With one of `--profile four_steps` it is 0: as trained.
- With the same seed and steps, `python -m byg_train edit --sampler renoise` draws this picture.
- To see each of the steps: *ByG Debug* in place of *SamplerCustomAdvanced*, with `at` *all*.

{TINY_WARNING}"""

TINY_VIDEO_FEW_STEPS = f"""# A clip in four steps

How *ByG Few Steps* samples a Wan pair: `sigmas` with the high-noise model, then `low_sigmas` with \
the low-noise one, which gets *Disable Noise* and the same `sampler`. **Press Run.** {FETCHED}

- These LoRAs were not trained for few steps, so `steps` says 4. With a pair of \
`--profile four_steps` it is 0: as trained.

{TINY_WARNING}"""


def with_files(text: str, files: tuple[Model, ...], loras: tuple[str, ...]) -> str:
    """A note, then links to what it needs and where that belongs."""
    if not files:
        return text
    links = "\n".join(f"- [{file.name}]({file.url})" for file in files)
    folders: dict[str, list[str]] = {}
    for file in files:
        folders.setdefault(file.directory, []).append(file.name)
    folders["loras"] = list(loras)
    lines = ["ComfyUI/models/"]
    for folder, names in folders.items():
        lines += [f"  {folder}/", *(f"    {name}" for name in names)]
    tree = "\n".join(lines)
    return f"{text}\n\n### Files\n{links}\n\n```\n{tree}\n```"

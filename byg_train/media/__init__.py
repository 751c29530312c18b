"""Files as frames, and frames as files. A picture is a clip of one frame."""


class MediaError(ValueError):
    """A file that cannot be used as a picture or a clip; one sentence without the file's name."""

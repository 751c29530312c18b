"""ByG: train editing LoRAs for flow models from unpaired pictures ("Bootstrap Your Generator").

Importing this package imports nothing else: ComfyUI nodes and the command line share it.
"""

__version__ = "0.1.0"

"""The only part of the node pack that touches ComfyUI's internals."""

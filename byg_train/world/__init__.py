"""The embedded tiny world. Its modules are run as scripts too, which load torch first thing."""

from ..machine import settle_threads

settle_threads()

"""Versions of models in the serving folder, and the component that pushes them."""

"""Packages and entry points of latentline; its pinned requirements are in requirements/lock.txt."""

from setuptools import setup

setup(
    name="latentline",
    version="0.1.0",
    description="A TFX and Kubeflow production line for latent-variable models",
    python_requires="==3.11.*",
    packages=["components", "pipeline", "pipeline.commands", "schemas", "trainer", "trainer.variants"],
    package_data={"components": ["templates/*.j2"], "schemas": ["*.pbtxt"]},
    extras_require={"mlflow": ["mlflow-skinny==2.19.0"]},
    entry_points={"console_scripts": ["latentline = pipeline.cli:main"]},
)

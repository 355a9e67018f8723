"""Packages and entry points of latentline; its pinned requirements are in requirements/lock.txt."""

from setuptools import find_packages, setup

setup(
    name="latentline",
    version="0.2.0",
    description="A TFX and Kubeflow production line for latent-variable models",
    python_requires="==3.11.*",
    packages=find_packages(include=["components*", "latentline*", "pipeline*", "schemas*", "trainer*"]),
    package_data={
        "latentline": ["py.typed"],
        "components.reporting": ["templates/*"],
        "schemas": ["*.pbtxt"],
        "trainer": ["*.json"],
    },
    extras_require={"mlflow": ["mlflow-skinny==2.19.0"]},
    entry_points={"console_scripts": ["latentline = pipeline.cli:main"]},
)

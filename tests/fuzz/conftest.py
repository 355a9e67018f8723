"""Holds properties over few inputs (every test run) or very many (make fuzz), and counts them.

Hypothesis draws inputs, which takes it longer than most properties take to check; so each input that can be
varied cheaply is, some times, by a dice that depends on nothing but the input.
"""

import random
import resource
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

MEMORY = 1 << 30
"""Bytes that a property may take beyond what the process has when it begins."""
VARIATIONS = 9
COUNTS: dict[str, int] = {}


@pytest.fixture
def hold(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Check a function on `examples` inputs of a strategy, and with `vary` on VARIATIONS of each as well."""

    def check(
        function: Callable[[Any], None],
        inputs: st.SearchStrategy[Any],
        examples: int,
        vary: Callable[[Any, random.Random], Any] | None = None,
    ) -> None:
        name = request.node.originalname

        def counted(value: Any) -> None:
            COUNTS[name] = COUNTS.get(name, 0) + 1
            function(value)
            if vary:
                dice = random.Random(repr(value))
                for _ in range(VARIATIONS):
                    value = vary(value, dice)
                    COUNTS[name] += 1
                    try:
                        function(value)
                    except BaseException as error:
                        error.add_note(f"of the varied input {value!r}")
                        raise

        hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )(hypothesis.given(inputs)(counted))()

    return check


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """Lets no test of the module take more than MEMORY more than the process has; MemoryError else."""
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, count in COUNTS.items():
        terminalreporter.write_line(f"{count:>9,} inputs  {name}")
    if COUNTS:
        terminalreporter.write_line(f"{sum(COUNTS.values()):>9,} inputs in all")

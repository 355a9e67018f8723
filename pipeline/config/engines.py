"""What Beam's components run on: engines by name, as lists of Beam's arguments, checked before anything runs.

Settings define engines under `engines` and choose one for each component under `beam`. The name of an engine
is never part of what is computed: results that one engine made are taken from the cache by another.
"""

import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Mapping

from pipeline.config.errors import SettingsError
from schemas import strict

EVERY = "default"
"""Key of the components that have no engine of their own."""
COMPONENTS = ("StatisticsGen", "Transform", "Evaluator")
"""The components that run on Beam's engines."""
UNUSED_IMAGE = "--sdk_container_image=unused"
"""Never looked at. Naming an image keeps TFX from packing its own sources for remote workers, which takes a
second for every component that uses Beam."""
DIRECT = "direct"
LOCAL_BEAM = ("--direct_running_mode=in_memory", UNUSED_IMAGE)
"""Arguments of the engine `direct`: Beam in the component's own process."""
BUILT_IN = f"{DIRECT} or {DIRECT}-N for N processes"
PROCESSES = re.compile(rf"{DIRECT}-([1-9]\d{{0,3}})")
SECONDS = 1.0
"""How long an address may take to answer."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""What a client of HTTP/2, and so of gRPC, says first: the preface, and settings that change nothing."""
SETTINGS_FRAME = 4
"""Type of the frame that a server of HTTP/2 answers with; it is the fourth byte."""

Arguments = tuple[str, ...]


def built_in(name: str) -> Arguments | None:
    """Return the arguments of a built-in engine, None where the name is no built-in one's."""
    if name == DIRECT:
        return LOCAL_BEAM
    if found := PROCESSES.fullmatch(name):
        mode = "--direct_running_mode=multi_processing"
        return (mode, f"--direct_num_workers={found[1]}", UNUSED_IMAGE)
    return None


def resolved(beam: Mapping[str, str | Arguments], engines: Mapping[str, Arguments]) -> dict[str, Arguments]:
    """Return Beam's arguments by component and for EVERY other one, `direct` where nothing is chosen.

    beam: by component, or EVERY, the name of an engine or arguments. engines: arguments by name. Raises
    ValueError, whose message begins with the place, for a component, engine or argument that does not exist.
    """
    for name, arguments in engines.items():
        if built_in(name) is not None:
            raise ValueError(f"engines.{name}: {BUILT_IN} are built in; choose another name")
        check(arguments, f"engines.{name}")
    found: dict[str, Arguments] = {EVERY: LOCAL_BEAM}
    for component, chosen in beam.items():
        if component not in (EVERY, *COMPONENTS):
            known = (EVERY, *COMPONENTS)
            raise ValueError(
                f"beam.{component}: no such component of Beam; {strict.suggestion(component, known)}"
            )
        if not isinstance(chosen, str):
            check(chosen, f"beam.{component}")
            found[component] = chosen
            continue
        arguments_of = engines.get(chosen, built_in(chosen))
        if arguments_of is None:
            raise ValueError(
                f"beam.{component}: no engine {chosen!r}; "
                f"choose {', '.join([*engines, BUILT_IN])}, or define it under engines"
            )
        found[component] = arguments_of
    return {component: _complete(arguments) for component, arguments in found.items()}


def check(arguments: Arguments, at: str) -> None:
    """Raise ValueError, which begins with the place `at`, for arguments that Beam does not know."""
    if arguments == LOCAL_BEAM:
        return  # and Beam need not be imported, which takes a second
    from pipeline.config import beam_options

    beam_options.check(arguments, at)


def is_remote(arguments: Iterable[str]) -> bool:
    """Return whether the arguments name a runner other than Beam's own, which runs on this machine."""
    return value(arguments, "runner").lower() not in ("", "directrunner")


def check_reachable(beam: Mapping[str, Arguments]) -> None:
    """Raise SettingsError if the job server or master of an engine does not answer within a second."""
    for arguments in dict.fromkeys(beam.values()):
        if is_remote(arguments) and (problem := unreachable(arguments)):
            raise SettingsError(problem)


def unreachable(arguments: Arguments) -> str:
    """Return why the job of a remote engine could not be submitted, in a sentence; empty if it could be."""
    runner, endpoint = value(arguments, "runner"), value(arguments, "job_endpoint")
    if endpoint and endpoint != "embed":
        problem = silence(endpoint, GREETING, lambda answer: answer[3:4] == bytes([SETTINGS_FRAME]))
        return problem and (
            f"{runner} cannot be used: no Beam job server answers at {endpoint} ({problem}); start it, or "
            "correct --job_endpoint"
        )
    jar = value(arguments, "flink_job_server_jar") or value(arguments, "spark_job_server_jar")
    if jar and not os.path.isfile(jar):
        return f"{runner} cannot be used: there is no job server's jar {jar}; correct the path"
    if jar and shutil.which("java") is None:
        return f"{runner} cannot be used: the job server {jar} needs Java, and no `java` is on the PATH"
    master = value(arguments, "flink_master")
    if master and not master.startswith("["):
        place = re.sub("^https?://", "", master).rstrip("/")
        problem = silence(place, b"", lambda answer: True)
        return problem and (
            f"{runner} cannot be used: no Flink answers at {place} ({problem}); start it, or correct "
            "--flink_master"
        )
    return ""


def silence(address: str, greeting: bytes, accepted: Callable[[bytes], bool]) -> str:
    """Return why nothing acceptable answers at HOST:PORT within SECONDS; empty if something does.

    greeting: sent first; empty where a connection is enough. accepted: whether an answer will do. Names are
    looked up in a thread that is left behind, since a lookup cannot be given a deadline.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        return "that is no HOST:PORT"
    found: list[str] = []

    def ask() -> None:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), SECONDS) as connection:
                connection.sendall(greeting)
                answer = connection.recv(64) if greeting else b""
        except TimeoutError:
            return
        except OSError as error:
            found.append(error.strerror or str(error))
        else:
            found.append("" if accepted(answer) else "what listens there is another server")

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * SECONDS)
    return found[0] if found else f"no answer within {SECONDS:.0f} s"


def _complete(arguments: Arguments) -> Arguments:
    """Return the arguments, for Beam's own runner with the image that is never looked at."""
    if is_remote(arguments) or value(arguments, "sdk_container_image"):
        return arguments
    return (*arguments, UNUSED_IMAGE)


def value(arguments: Iterable[str], option: str) -> str:
    """Return the last value of an option among arguments, empty if it is not there."""
    given = list(arguments)
    found = ""
    for index, argument in enumerate(given):
        name, sign, value = argument.partition("=")
        if name == f"--{option}":
            found = value if sign else next(iter(given[index + 1 : index + 2]), "")
    return found

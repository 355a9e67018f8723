"""Kill a training process at KILLS random moments, then let it finish: survive.py OUT.

Children are forks of this process, which has imported TensorFlow and not used it yet.
"""

import os
import pathlib
import random
import signal
import sys
import time

import numpy as np
import train

KILLS = 5
STEPS = "15000"


def start(out: str, folder: str) -> int:
    child = os.fork()
    if child:
        return child
    train.main(out, STEPS, folder)
    os._exit(0)


def main(out: str) -> None:
    folder = pathlib.Path(out)
    began = time.monotonic()
    assert os.waitpid(start(str(folder / "whole.npz"), ""), 0)[1] == 0
    seconds = time.monotonic() - began
    moments = random.Random()
    resumed = set()
    killed = 0
    for _ in range(3 * KILLS):
        child = start(str(folder / "killed.npz"), str(folder / "checkpoints"))
        time.sleep(moments.uniform(0.1, 0.4) * seconds)
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:  # it was faster; the next one begins anew
            (folder / "killed.npz").unlink()
            continue
        killed += 1
        resumed |= {path.name for path in (folder / "checkpoints").glob("*.npz")}
        if killed == KILLS:
            break
    assert killed == KILLS
    assert not (folder / "killed.npz").exists()
    assert os.waitpid(start(str(folder / "killed.npz"), str(folder / "checkpoints")), 0)[1] == 0
    whole, after = np.load(folder / "whole.npz"), np.load(folder / "killed.npz")
    assert whole.files == after.files
    different = [name for name in whole.files if whole[name].tobytes() != after[name].tobytes()]
    print(f"killed {KILLS} times, resumed from {len(resumed)} checkpoints, different: {different}")


if __name__ == "__main__":
    main(sys.argv[1])

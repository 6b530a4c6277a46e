"""Shows what the package is for, in about a minute.

1. Trains `resume_digits.py` without disturbance.
2. Trains it again; kills it with SIGKILL in the middle of an epoch, and once more while it writes a snapshot; starts
   it again each time; and compares weights and optimizer state with those of the undisturbed run, bit for bit.
3. Measures saving and loading beside `torch.save` and `torch.load`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from compare_torch_save import compare
from resume_digits import newest_snapshot

import sucrose

TRAINING = [sys.executable, str(Path(__file__).with_name("resume_digits.py"))]


def train_until(folder: Path, moment: Callable[[], bool]) -> None:
    """Starts the training and kills it at the moment, which is looked at again while the process stands still."""
    process = subprocess.Popen([*TRAINING, str(folder)])
    while process.poll() is None:
        if moment():
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if moment():
                process.kill()
                process.wait()
                return
            process.send_signal(signal.SIGCONT)
        time.sleep(0.0002)
    raise SystemExit("the training ended before it could be killed")


def newest_step(folder: Path) -> int:
    snapshot = newest_snapshot(folder)
    return int(snapshot.name.removeprefix("step_")) if snapshot else 0


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(".step_*"))


def fingerprint(final: Path) -> str:
    """Digest of every bit of the trained weights and the optimizer's state."""
    state = sucrose.load(str(final))
    digest = hashlib.sha256()
    moments = [state["optimizer"]["state"][index] for index in sorted(state["optimizer"]["state"])]
    for tensors in [state["model"], *moments]:
        for name in sorted(tensors):
            digest.update(name.encode())
            digest.update(torch.as_tensor(tensors[name]).numpy().tobytes())
    return digest.hexdigest()


def show_resume(folder: Path) -> None:
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    for run in (undisturbed, killed):
        run.mkdir(parents=True)

    print("\n== Training without disturbance", flush=True)
    subprocess.run([*TRAINING, str(undisturbed)], check=True)

    print("\n== The same training, killed in the middle of the second epoch", flush=True)
    train_until(killed, lambda: newest_step(killed) >= 63)
    print(f"SIGKILL; the newest snapshot is step_{newest_step(killed)}")

    print("\n== Started again, and killed while it writes a snapshot", flush=True)
    train_until(killed, lambda: newest_step(killed) >= 126 and bool(unfinished(killed)))
    print(f"SIGKILL; the newest snapshot is step_{newest_step(killed)}, unfinished is {unfinished(killed)[0].name}")

    print("\n== Started again", flush=True)
    subprocess.run([*TRAINING, str(killed)], check=True)

    expected, found = fingerprint(undisturbed / "final.pt"), fingerprint(killed / "final.pt")
    print(f"\nSHA-256 of weights and optimizer state\n  undisturbed    {expected}\n  killed twice   {found}")
    if found != expected:
        raise SystemExit("FAILED: the resumed training ended with other weights")
    print("Equal, bit for bit.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/demo"), help="emptied first; %(default)s")
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    show_resume(folder)
    print("\n== Saving and loading beside torch.save and torch.load", flush=True)
    compare(folder)


if __name__ == "__main__":
    main()

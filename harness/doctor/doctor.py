"""The examination: the machine, every interpreter by itself, then every arm for real; what is wrong is a line each."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from harness.doctor import machine
from harness.doctor.machine import Ailment
from harness.doctor.trial import tried
from harness.machine import gpu
from harness.machine.facts import capture
from harness.machine.files import ROOT, SystemFiles
from harness.options import BenchConfig
from harness.processes.launcher import worker_environment
from harness.processes.scratch import Scratch
from harness.processes.workers import LocalSessions
from harness.progress import Progress
from impls.command.process import said
from impls.errors import EXIT_FAILED, EXIT_OK, UsageError
from impls.registry import Arm, Device
from messages import shown, tell, words

# The trial compilation of a loaded machine.
INSIDE_S = 400
PYTHONS = ((3, 10), (3, 12))
# Ask one interpreter: of an arm, in an environment, about a device.
Ask = Callable[[str, Arm, Device, Mapping[str, str]], list[Ailment]]


def examine(options: BenchConfig, progress: Progress, files: SystemFiles | None = None) -> int:
    """Look at everything, print what is wrong and the environment for a bug report.

    Args:
        options: arms, interpreters, device, threads, folder of results.
        progress: told what is being done.
        files: the system's, which a test replaces.

    Returns:
        the exit code: 0 all in order, 1 not.
    """
    progress.say(tell("looking at the machine"))
    found = list(machine.ailments(options.device, Path(options.out), files or SystemFiles(), os.environ))
    versions: dict[str, str] = {}
    arms = list(dict.fromkeys(options.compared))
    environment = worker_environment(os.environ, options.cpu_threads)
    sound: list[tuple[Arm, Device]] = []
    no_gpu = options.device != "cpu" and gpu.fault() is not None
    for arm in arms:
        device = device_of(arm, options, no_gpu)
        progress.say(tell("looking at {arm} in {python}", arm=arm.name, python=options.python(arm)))
        ill = asked(options.python(arm), arm, device, environment)
        found += ill
        if not ill:
            sound.append((arm, device))
        elif device == "cuda" and options.device == "auto":
            found.append(Ailment(arm.name, tell("it cannot use the GPU, so that runs with --device auto take the CPU: "
                                                "mend the line above")))
    if sound:
        found += trials(options, sound, versions, progress)
    for arm in arms:
        if arm not in [one for one, _ in sound]:
            progress.say(tell("{arm}: not tried before that is mended", arm=arm.name))
    report(found, options, versions)
    return EXIT_FAILED if found else EXIT_OK


def device_of(arm: Arm, options: BenchConfig, no_gpu: bool) -> Device:
    """Where an arm is to run; without a usable GPU it is looked at on the CPU."""
    if options.device == "cpu" or no_gpu or (options.device == "auto" and arm.device_fault("cuda")):
        return "cpu"
    return "cuda"


def asked(python: str, arm: Arm, device: Device, environment: Mapping[str, str]) -> list[Ailment]:
    """What an interpreter finds wrong with itself.

    Args:
        python: the interpreter.
        arm: what it is to run.
        device: on what.
        environment: as the arm's worker gets it.
    """
    fault = arm.device_fault(device)
    if fault is not None:
        return [Ailment(arm.name, tell("{fault}: give another --device", fault=shown(fault)))]
    command = [python, "-m", "harness.doctor.inside", arm.backend, device]
    try:
        done = subprocess.run(command, env=dict(environment), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace", check=False, timeout=INSIDE_S)
        told = json.loads(done.stdout.splitlines()[-1])
        version = tuple(map(int, told["python"].split(".")[:2]))
        found = [Ailment(f"{arm.name}, {shown(what)}", shown(text)) for what, text in told["ailments"]]
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Ailment(arm.name, tell("{python} does not run ({error}): choose another by --interpreter",
                                       python=python, error=error))]
    except (ValueError, IndexError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or [tell("exit status {status}", status=done.returncode)])[-1]
        return [Ailment(arm.name, tell("{python} cannot be asked ({last}): {python} -m pip install -e {root}",
                                       python=python, last=last[:160], root=ROOT))]
    if not PYTHONS[0] <= version <= PYTHONS[1]:
        # All else is a consequence.
        return [Ailment(f"{arm.name}, Python", tell(
            "{python} is Python {version}, and 3.10, 3.11 or 3.12 is needed: conda create -n ddpm-bench python=3.11",
            python=python, version=told["python"]))]
    return found


def trials(options: BenchConfig, sound: Iterable[tuple[Arm, Device]], versions: dict[str, str],
           progress: Progress) -> list[Ailment]:
    """Every arm for real; `versions` gets what it is."""
    found = []
    try:
        with Scratch() as scratch:
            sessions = LocalSessions(options.cpu_threads, scratch, options.python, watcher=progress)
            try:
                for arm, device in sound:
                    progress.say(tell("trying {arm} on {device}: a product, then a training step", arm=arm.name,
                                      device=device))
                    version, ill = tried(sessions, arm, device, options.cpu_threads, options.python(arm))
                    versions[arm.name] = f"{version or tell('does not start')}, {device}"
                    found += ill
            finally:
                sessions.close()
    except UsageError as error:
        found.append(Ailment(tell("temporary folder"), str(error)))
    return found


def report(found: Iterable[Ailment], options: BenchConfig, versions: Mapping[str, str]) -> None:
    """Print what is wrong, or that nothing is, and a table for a bug report."""
    lines = list(dict.fromkeys(said(f"{one.where}: {one.text}") for one in found))
    print("\n".join(lines) or tell("all in order: {arms}", arms="; ".join(
        f"{arm} ({what})" for arm, what in versions.items())))
    facts = capture(interpreters=options.interpreters, threads=options.cpu_threads).facts
    rows = {**{name: value for name, value in facts.items() if value is not None},
            **{tell("arm {name}", name=name): what for name, what in versions.items()}}
    told = tell("for a bug report, with the lines above; the table names no folder, user or host:")
    print(f"\n{told}\n\n| {' | '.join(words('fact', 'value'))} |\n|---|---|")
    print("\n".join(f"| {name} | {said(value).replace('|', '/')} |" for name, value in rows.items()))

"""Several ranks at one task: what is refused before they meet, how they stay in step, and how they end together."""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from impls.backend import Backend, BackendInfo, Group
from impls.command.process import said
from impls.errors import EXIT_FAILED, EXIT_USAGE, UnavailableError, UsageError, gave_up
from impls.ranks import Ranks, command, own_ranks
from impls.registry import Arm
from impls.store.source import source_sha256
from messages import marked, plural, shown, tell

Result = TypeVar("Result")
# So long a rank waits for the first one to say what is wrong with all of them, before it says what is wrong with it.
SPEAKS_FIRST_S = 5.0
# Bytes of what a rank tells the others about itself.
MOST_TOLD = 2048
# Wishes that are agreed on at once; all ranks speak of equally many numbers, whatever they have to say.
MOST_WISHES = 3
# What of a statement need not be alike.
PLACES = ("host", "cpus", "gpu")
# Other things that ranks state.
STATED = (marked("arm"), marked("device"), marked("framework"), marked("code"), marked("experiment"),
          marked("data set"), marked("step"), marked("checkpoint"), marked("images"), marked("weights"))


class Settled(UsageError):  # noqa: N818 - of any kind of error
    """A fault that the ranks have told each other: the one that raises it says it."""


def run(work: Callable[[list[str], Ranks], int | None], words: list[str]) -> int | None:
    """`work(words, ranks)`; of faults that several ranks have, one line is said, and all end.

    Before ranks have met, a fault of all is a fault of the first one, whose end makes the launcher end the others.
    """
    ranks = own_ranks()
    if ranks.size == 1:
        return work(words, ranks)
    try:
        return work(words, ranks)
    except Settled:
        raise
    except UsageError as error:
        if ranks.rank == 0:
            raise
        try:
            time.sleep(SPEAKS_FIRST_S)
        except KeyboardInterrupt:
            raise SystemExit(EXIT_USAGE) from error
        raise type(error)(f"{_where(ranks.rank, socket.gethostname())}: {error}") from error
    except Exception as error:
        # Not raised: what MPI does at the end of a process waits for ranks that may wait for this one.
        known = gave_up(error)
        if known is None:
            traceback.print_exc()
        else:
            print(f"{_where(ranks.rank, socket.gethostname())}: {shown(str(known))}", file=sys.stderr)
        return EXIT_FAILED


def require_startable(arm: Arm, ranks: Ranks, prog: str, words: Sequence[str]) -> None:
    """Refuse ranks that the arm cannot have, and a launcher that does not fit it.

    Args:
        arm: what runs.
        ranks: as they were started.
        prog: the command, as a person types it.
        words: its own.

    Raises:
        UsageError: with the right command, where there is one.
    """
    if ranks.size == 1 or ranks.launcher is None:
        return
    if not arm.spec.launchers:
        raise UsageError(tell("{arm} runs in one process, {launcher} started {count}: start it without", arm=arm.name,
                              launcher=ranks.launcher, count=ranks.size))
    if ranks.launcher not in arm.spec.launchers:
        usual = arm.spec.launchers[0]
        right = command(usual, ranks.size, f"{prog.removeprefix('python ')} {shlex.join(words)}".strip())
        raise UsageError(tell("{launcher} does not fit {arm}: start it by: {command}", launcher=ranks.launcher,
                              arm=arm.name, command=right))
    most = arm.spec.most_ranks
    if most is not None and ranks.size > most:
        raise UsageError(tell("{arm} can have {most} ranks at most, {launcher} started {count}", arm=arm.name,
                              most=most, launcher=ranks.launcher, count=ranks.size))


class Team:
    """This rank and the others, which do the same things in the same order.

    Args:
        group: they have met.

    Attributes:
        ranks: this one's place.
        leads: whether this one owns what is written and says what is said.
    """

    def __init__(self, group: Group) -> None:
        self.group, self.ranks = group, group.ranks
        self.leads = group.ranks.rank == 0

    def agreed(self, *wishes: bool) -> list[bool]:
        """What any rank wishes, for all of them; nobody is ahead of it afterwards.

        Raises:
            SystemExit: a rank has failed and says why; with status 2.
        """
        failed, *wanted = self._total(False, *wishes)
        if failed:
            self._speaker(failed=False)
            raise SystemExit(EXIT_USAGE)
        return wanted[: len(wishes)]

    def total(self, number: float) -> float:
        """The sum of a number over all ranks, none of which is ahead of it afterwards."""
        self.agreed()
        return float(self.group.total(np.array([number]))[0])

    def told(self, text: str) -> list[str]:
        """What every rank says of itself, by rank."""
        rows = np.zeros((self.ranks.size, MOST_TOLD))
        raw = np.frombuffer(text.encode()[:MOST_TOLD], np.uint8)
        rows[self.ranks.rank, : len(raw)] = raw
        return [bytes(row.astype(np.uint8)).rstrip(b"\0").decode() for row in self.group.total(rows)]

    def require_alike(self, facts: Mapping[str, str]) -> None:
        """Refuse ranks of which one differs from the first.

        Raises:
            UsageError: on all of them.
        """
        self.agreed()
        fault = difference([json.loads(text) for text in self.told(json.dumps(facts))])
        if fault is not None:
            raise UsageError(fault)

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """What must not be done by all ranks of a host at once: by the first, then by the others."""
        return self._before_others(work, self.ranks.local_rank == 0)

    def first(self, work: Callable[[], Result]) -> Result:
        """What the first of all ranks begins, on a disk that they share, before the others go on with it."""
        return self._before_others(work, self.leads)

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """A block in which a rank's fault is told to the others at their next `agreed`, where they end too.

        Raises:
            Settled: what was wrong, on the first of the ranks that failed.
            SystemExit: on all others; with status 2.
        """
        try:
            yield
        except (UsageError, OSError) as error:
            message = str(error) if isinstance(error, UsageError) else said(error)
            self._total(True)
            speaker = self._speaker(failed=True)
            if speaker != self.ranks.rank:
                raise SystemExit(EXIT_USAGE) from error
            where = "" if self.leads else f"{_where(speaker, socket.gethostname())}: "
            raise Settled(f"{where}{message}") from error

    def _before_others(self, work: Callable[[], Result], early: bool) -> Result:
        if not early:
            self.agreed()
        done = work()
        if early:
            self.agreed()
        # None goes on to what only all can do before the last one has done this.
        self.agreed()
        return done

    def _total(self, failed: bool, *wishes: bool) -> list[bool]:
        flags = np.zeros(1 + MOST_WISHES)
        flags[: 1 + len(wishes)] = failed, *wishes
        return [bool(flag) for flag in self.group.total(flags)]

    def _speaker(self, failed: bool) -> int:
        """The first rank that failed, which all ask for at once."""
        rows = np.zeros(self.ranks.size)
        rows[self.ranks.rank] = failed
        return int(np.flatnonzero(self.group.total(rows))[0])


@contextmanager
def joined(backend: Backend, arm: Arm, ranks: Ranks) -> Iterator[Team | None]:
    """The team of these ranks, which are made sure to run the same on cores or GPUs of their own; None for one alone.

    Raises:
        UsageError: they differ, share what they must not, or cannot meet.
    """
    if ranks.size == 1:
        yield None
        return
    join: Callable[[Ranks], Group] | None = getattr(backend, "join", None)
    if join is None:
        raise UnavailableError(tell("{arm} has no group of ranks: start one process", arm=arm.name))
    with _ended_at_once():
        team = Team(join(ranks))
    try:
        with team.ending_together():
            team.require_alike(_statement(arm, backend.info))
            yield team
            # Whoever is done waits for the others, whose faults would find nobody to tell.
            team.agreed()
    finally:
        team.group.close()


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """A block that waits outside of Python, where the handler of a signal never comes to run; nothing can be lost yet.

    torchrun asks ranks whose fellow has died to end, and would wait half a minute for one that still waits for it.
    """
    kept = None
    if threading.current_thread() is threading.main_thread():
        kept = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        if kept is not None:
            signal.signal(signal.SIGTERM, kept)


def difference(statements: Sequence[Mapping[str, str]]) -> str | None:
    """What does not let ranks work together, in one line; None where nothing hinders them.

    Args:
        statements: of every rank: "host", "cpus" (the processors that it may use, as a hexadecimal mask) and "gpu" (its
            UUID, or nothing), where they are told, and what must be alike.
    """
    first = statements[0]
    for rank, statement in enumerate(statements):
        for name, value in first.items():
            if name not in PLACES and statement.get(name) != value:
                where = _where(rank, statement.get("host", ""))
                return tell("{where} has another {name} than rank 0: {value} instead of {first}: start all ranks alike",
                            where=where, name=tell(name), value=statement.get(name), first=value)
    for host in dict.fromkeys(statement.get("host") for statement in statements):
        here = [statement for statement in statements if statement.get("host") == host]
        gpus = [statement["gpu"] for statement in here if statement.get("gpu")]
        if len(set(gpus)) < len(gpus):
            return tell("{ranks} ranks on {host} share {gpus} GPU: start one for each", ranks=len(here), host=host,
                        gpus=len(set(gpus)))
        cpus = 0
        for statement in here:
            cpus |= int(statement.get("cpus", "0"), 16)
        if cpus and len(here) > cpus.bit_count():
            count = cpus.bit_count()
            return tell("{ranks} ranks on {host} have {processors} together: start at most {most} there",
                        ranks=len(here), host=host, processors=plural(count, "processor"), most=count)
    return None


def _statement(arm: Arm, info: BackendInfo) -> dict[str, str]:
    """What this process is and where."""
    cpus = sum(1 << number for number in os.sched_getaffinity(0))
    return {
        "host": socket.gethostname(), "cpus": f"{cpus:x}" if info.device == "cpu" else "0",
        "gpu": info.device_uuid or "", "arm": arm.name, "device": info.device,
        "framework": f"{info.framework} {info.version}", "Python": platform.python_version(),
        "numpy": np.__version__, "code": source_sha256(Path(__file__).parents[2], ["impls"])[:16]}


def _where(rank: int, host: str) -> str:
    return tell("rank {rank} on {host}", rank=rank, host=host)

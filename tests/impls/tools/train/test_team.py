"""Several ranks at one task: what is refused, by whom it is said, and that all end at the same place."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from thread_ranks import every_rank

from impls import ranks as places
from impls.errors import EXIT_FAILED, EXIT_USAGE, UnavailableError, UsageError
from impls.ranks import ALONE, Ranks
from impls.registry import parse_arm
from impls.tools import team
from impls.tools.team import Settled, Team, difference, require_startable


def started(launcher, size=2, rank=0):
    return Ranks(rank, size, rank, size, launcher, "test")


@pytest.mark.parametrize(("arm", "launcher", "line"), [
    ("pytorch", "mpirun",
     "mpirun does not fit pytorch: start it by: torchrun --nproc-per-node 2 -m impls.train --lr 1e-4"),
    ("jittor:onednn", "torchrun", "torchrun does not fit jittor:onednn: start it by: mpirun -np 2 --bind-to none "
                                  "python -m impls.train --lr 1e-4"),
])
def test_a_launcher_that_does_not_fit_names_the_command_that_does(arm, launcher, line):
    with pytest.raises(UsageError) as caught:
        require_startable(parse_arm(arm), started(launcher), "python -m impls.train", ["--lr", "1e-4"])
    assert str(caught.value) == line


def test_launchers_that_fit_and_starts_without_one_are_taken():
    for arm, launcher in (("pytorch", "torchrun"), ("pytorch", "srun"), ("jittor", "mpirun"), ("jittor", "srun")):
        require_startable(parse_arm(arm), started(launcher, 64), "", [])
        require_startable(parse_arm(arm), started("mpirun", 1), "", [])
        require_startable(parse_arm(arm), ALONE, "", [])


def test_jittor_can_have_64_ranks(monkeypatch):
    with pytest.raises(UsageError, match="jittor can have 64 ranks at most, mpirun started 65"):
        require_startable(parse_arm("jittor"), started("mpirun", 65), "", [])


def test_a_backend_without_a_group_is_started_alone():
    arm = SimpleNamespace(name="other", spec=SimpleNamespace(launchers=()))
    with pytest.raises(UsageError, match="other runs in one process, torchrun started 2: start it without"):
        require_startable(arm, started("torchrun"), "", [])
    with pytest.raises(UnavailableError), team.joined(object(), arm, started("torchrun")):
        pass


def test_any_ranks_wish_is_everybodys():
    def work(group):
        return Team(group).agreed(group.ranks.rank == 2, False, group.ranks.rank == 0)

    assert every_rank(3, work) == [[True, False, True]] * 3


def test_every_rank_hears_what_the_others_say():
    assert every_rank(3, lambda group: Team(group).told("ä" * group.ranks.rank)) == [["", "ä", "ää"]] * 3


def test_the_first_rank_that_failed_says_why_and_all_end():
    def work(group):
        together = Team(group)
        with together.ending_together():
            together.agreed(True)
            if group.ranks.rank in (1, 2):
                raise UsageError(f"no room for {group.ranks.rank}")
            together.agreed()

    first, second, third, fourth = every_rank(4, work)
    assert isinstance(second, Settled) and str(second).endswith(": no room for 1") and "rank 1 on " in str(second)
    for other in (first, third, fourth):
        assert isinstance(other, SystemExit) and other.code == EXIT_USAGE


def test_what_all_ranks_find_wrong_is_said_by_the_first_one():
    def work(group):
        with Team(group).ending_together():
            raise UsageError("the loss is nan")

    first, second = every_rank(2, work)
    assert str(first) == "the loss is nan" and isinstance(second, SystemExit)


def test_ranks_that_differ_are_refused_by_all():
    def work(group):
        Team(group).require_alike({"host": f"node{group.ranks.rank}", "code": "a" if group.ranks.rank != 1 else "b"})

    found = every_rank(3, work)
    assert {str(error) for error in found} == {
        "rank 1 on node1 has another code than rank 0: b instead of a: start all ranks alike"}
    assert every_rank(3, lambda group: Team(group).require_alike({"code": "a"})) == [None] * 3


@pytest.mark.parametrize(("statements", "line"), [
    ([("a", "3", ""), ("a", "3", "")], None),
    # Bound by their launcher, each to its own.
    ([("a", "1", ""), ("a", "2", "")], None),
    ([("a", "3", "")] * 3, "3 ranks on a have 2 processors together: start at most 2 there"),
    ([("a", "1", ""), ("a", "1", "")], "2 ranks on a have 1 processor together: start at most 1 there"),
    ([("a", "1", ""), ("b", "1", "")], None),
    ([("a", "0", "GPU-1"), ("a", "0", "GPU-2"), ("b", "0", "GPU-1")], None),
    ([("a", "0", "GPU-1"), ("a", "0", "GPU-1")], "2 ranks on a share 1 GPU: start one for each"),
])
def test_ranks_have_processors_and_gpus_of_their_own(statements, line):
    assert difference([dict(zip(("host", "cpus", "gpu"), one, strict=True)) for one in statements]) == line


def test_what_a_host_does_once_comes_before_the_other_ranks_do_it():
    order = []

    def work(group):
        return Team(group).in_turn(lambda: order.append(group.ranks.local_rank) or group.ranks.rank)

    assert every_rank(3, work) == [0, 1, 2] and order[0] == 0
    order.clear()
    assert every_rank(2, lambda group: Team(group).first(lambda: order.append(group.ranks.rank))) == [None, None]
    assert order == [0, 1]


@pytest.mark.parametrize("way", ["in_turn", "first"])
def test_who_fails_where_the_first_one_did_not_stops_it_before_all_go_on(way):
    gone_on = []

    def work(group):
        def read():
            if group.ranks.rank == 1:
                raise UsageError("cannot be read here")

        together = Team(group)
        with together.ending_together():
            getattr(together, way)(read)
            gone_on.append(group.ranks.rank)

    first, second, third = every_rank(3, work)
    assert isinstance(second, Settled) and isinstance(first, SystemExit) and isinstance(third, SystemExit)
    assert gone_on == []


def test_whoever_is_done_waits_for_the_fault_of_another(monkeypatch):
    monkeypatch.setattr(team, "_statement", lambda arm, info: {"host": ""})

    def work(group):
        backend = SimpleNamespace(join=lambda ranks: group, info=None)
        with team.joined(backend, None, group.ranks) as together:
            if together.leads:
                raise UsageError("rank 1 drew it, but it cannot be read here")

    first, second = every_rank(2, work)
    assert isinstance(first, Settled) and str(first).startswith("rank 1 drew it") and isinstance(second, SystemExit)


def test_before_ranks_have_met_the_first_one_speaks_and_ends_the_others(monkeypatch):
    def refuse(words, ranks):
        raise UsageError("no such file")

    monkeypatch.setattr(team, "own_ranks", lambda: started("torchrun"))
    with pytest.raises(UsageError, match="^no such file$"):
        team.run(refuse, [])
    monkeypatch.setattr(team, "own_ranks", lambda: started("torchrun", rank=1))

    def ended(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", ended)
    with pytest.raises(SystemExit) as caught:
        team.run(refuse, [])
    assert caught.value.code == EXIT_USAGE
    # Nobody ended it: it is alone with that.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(UsageError, match="^rank 1 on .*: no such file$"):
        team.run(refuse, [])


@pytest.mark.parametrize(("error", "line"), [
    (RuntimeError("CUDA error: unspecified launch failure\nSee"), "CUDA error: unspecified launch failure: the driver"),
    (RuntimeError("our own bug"), "Traceback")])
def test_what_fails_a_rank_is_said_and_ends_it(monkeypatch, capsys, error, line):
    def work(words, ranks):
        raise error

    monkeypatch.setattr(team, "own_ranks", lambda: started("torchrun", rank=1))
    assert team.run(work, []) == EXIT_FAILED
    told = capsys.readouterr().err
    assert line in told and (line == "Traceback" or (told.startswith("rank 1 on ") and told.count("\n") == 1))


def test_one_process_is_left_alone(monkeypatch):
    def work(words, ranks):
        assert (words, ranks) == (["a"], ALONE)
        raise ValueError("our own bug")

    monkeypatch.setattr(team, "own_ranks", lambda: places.ALONE)
    with pytest.raises(ValueError, match="our own bug"):
        team.run(work, ["a"])
    with team.joined(object(), None, ALONE) as together:
        assert together is None


def test_the_sum_is_of_numbers_of_one_shape():
    with pytest.raises(AssertionError):
        for error in every_rank(2, lambda group: group.total(np.zeros(1 + group.ranks.rank))):
            raise error

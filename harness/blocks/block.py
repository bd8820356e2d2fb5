"""One block: a fresh process of every arm, each brought to its steady state, then measured in alternating windows."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.bench import COMMAND_LIMIT_S, HAND_OVER_S, MAX_FAILURES, SLOW_LIMIT_S, Bench
from harness.blocks.once import run_extras
from harness.blocks.warmup import Started, cache_word, differences
from harness.blocks.windows import metered
from harness.machine.disturbance import Disturbance
from harness.plan import BlockPlan, turn_order
from harness.processes.session import WorkerFailedError
from harness.protocol import life, timing, training
from harness.record.events import ArmSlot, BlockState, Case, Losses, Memory, WarmUp, Window, WorkerStarted
from harness.record.findings import COMPILED_WHILE_MEASURED, NO_STEADY_STATE
from harness.suites.sampling.batches import Batches
from impls.registry import Device

if TYPE_CHECKING:
    from harness.stats.steady import SteadyState

WINDOW_S = 0.1
# Energy counters are too coarse for less than 5 s on a GPU.
FREE_WINDOW_S: dict[Device, float] = {"cpu": 2.0, "cuda": 5.0}
FREE_PAIRS = 1
# A late fall (just-in-time compilation has been seen to end at step 35) is found only when one process runs well past
# it, so the first of each arm runs long, and the later ones twice as long as any warm-up found before.
WARMUP_MIN_STEPS = 20
WARMUP_FIRST_STEPS = 80
WARMUP_FIRST_S = 20.0
WARMUP_CAP_STEPS = 60
WARMUP_CAP_S = 20.0
WARMUP_CHUNK_S = 1.0


class Block:
    """Measures one block and writes it to the journal."""

    def __init__(self, bench: Bench, plan: BlockPlan) -> None:
        self._bench, self._plan, self._number = bench, plan, plan.block
        self._live: dict[ArmSlot, Started] = {}
        self._failed: set[ArmSlot] = set()
        self._spent: dict[ArmSlot, dict[int, float]] = {}
        self._disturbance = Disturbance({slot: arm.name for slot, arm in bench.plan.arms}, bench.cpu_ns, bench.busy_ns,
                                        counters=bench.counters)

    def run(self) -> BlockState:
        """Measure every arm that has not failed for good; the state also goes into the journal."""
        order = turn_order(self._bench.plan.slots, self._plan.order_seed, 0)
        order = [slot for slot in order if self._may_run(slot)]
        self._bench.telemetry.mark()
        self._bench.look_around(self._number)
        groups = [order] if self._bench.plan.schedule == "resident" else [[slot] for slot in order]
        for group in groups:
            try:
                self._measure(group)
            except BaseException:
                self._stop(at_once=True)
                raise
            self._stop()
        for slot in order:
            self._bench.failures[slot] = self._bench.failures[slot] + 1 if slot in self._failed else 0
        self._bench.look_around(self._number)
        reasons = [*self._disturbance.reasons(), *self._bench.telemetry.disturbances(), *self._shifts()]
        state = BlockState(block=self._number, order_seed=self._plan.order_seed, dirty=bool(reasons), reasons=reasons,
                           repeats=self._plan.repeats)
        self._bench.writer.append(state)
        return state

    def _measure(self, group: list[ArmSlot]) -> None:
        work = Batches(self._bench, self._number, self._live, self._guarded, self._turns)
        for slot in group:
            self._guarded(slot, self._start)
        self._bench.telemetry.watch({slot: arm.session.pid for slot, arm in self._live.items()})
        for slot in list(self._live):
            self._guarded(slot, self._warm_up)
        self._estimate()
        self._disturbance.begin([arm.session.pid for arm in self._live.values()])
        self._windows(group)
        if self._bench.plan.cells:
            work.windows(group)
        else:
            self._free_windows(group)
        self._disturbance.end()
        for slot in list(self._live):
            self._guarded(slot, self._read)
        fresh = {slot: arm for slot, arm in self._live.items() if slot not in self._bench.extras_done}
        run_extras(self._bench, self._number, fresh)
        if fresh and self._bench.plan.cells:
            work.sweep(group)

    def _estimate(self) -> None:
        """Say once, from the steps measured so far, how long the run will take."""
        if self._number or not self._live:
            return
        plan = self._bench.plan
        steps = {arm.session.arm.name: arm.typical_ns / 1e9 for arm in self._live.values()}
        starts = sum((arm.session.spawn_ns + arm.created.import_ns + arm.built.build_ns + sum(arm.step_ns)) / 1e9
                     for arm in self._live.values())
        windows = sum(max(second, WINDOW_S) + HAND_OVER_S for second in steps.values()) * plan.pairs
        block_s = starts + windows + len(steps) * FREE_PAIRS * FREE_WINDOW_S[plan.device]
        known = ", ".join(f"{name} {second:.3g} s" for name, second in steps.items())
        self._bench.progress.say(f"a step takes: {known}; a block takes about {block_s:.0f} s, the {plan.min_blocks} "
                                 f"blocks that are needed about {plan.min_blocks * block_s / 60:.1f} min")

    def _may_run(self, slot: ArmSlot) -> bool:
        if not self._bench.given_up(slot):
            return True
        self._bench.writer.append(Case(case_id=self._case(slot), arm=slot, block=self._number, status="skipped",
                                       reason=f"it failed in {MAX_FAILURES} blocks in a row"))
        return False

    def _guarded(self, slot: ArmSlot, work: Callable[..., None], *args: int) -> None:
        """Do one arm's work; its failure ends this arm in this block and nothing else."""
        try:
            work(slot, *args)
        except WorkerFailedError as error:
            self._failed.add(slot)
            started = self._live.pop(slot, None)
            if started is not None:
                started.session.kill()
            self._bench.fail(self._case(slot), slot, self._number, error, self._log(slot))

    def _start(self, slot: ArmSlot) -> None:
        bench = self._bench
        bench.progress.status(f"{bench.plan.arm(slot).name}: starting")
        session, created = bench.open(slot, self._log(slot))
        try:
            built = (bench.build_sampler if bench.plan.cells else bench.build)(session, bench.experiment)
            first = session.ask(timing.Stepwise(steps=1), SLOW_LIMIT_S)
        except BaseException:
            session.kill()
            raise
        self._live[slot] = Started(session, created, built, list(first.start_ns), list(first.step_ns),
                                   float(first.step_ns[0]))

    def _warm_up(self, slot: ArmSlot) -> None:
        from harness.stats.steady import detect

        arm = self._live[slot]
        self._bench.progress.status(f"{arm.session.arm.name}: warm-up")
        chunk, capped = 4, False
        while True:
            times = arm.session.ask(timing.Stepwise(steps=chunk), SLOW_LIMIT_S)
            arm.start_ns += times.start_ns
            arm.step_ns += times.step_ns
            arm.typical_ns = statistics.median(arm.step_ns[len(arm.step_ns) // 2 :])
            done, state = len(arm.step_ns), detect(arm.step_ns)
            least = self._least_warm_up(slot, arm)
            enough = max(least, 2 * (state.steady_from or 0))
            cap = max(WARMUP_CAP_STEPS, arm.steps_for(WARMUP_CAP_S), 2 * least)
            if state.steady_from is not None and done >= enough:
                break
            if done >= cap:
                capped = True
                break
            left = enough - done if done < enough else WARMUP_MIN_STEPS
            chunk = max(1, min(max(left, arm.steps_for(WARMUP_CHUNK_S)), cap - done))
        self._bench.longest_warm_up[slot] = max(self._bench.longest_warm_up.get(slot, 0), state.steady_from or 0)
        self._record_start(slot, arm, state, capped)

    def _least_warm_up(self, slot: ArmSlot, arm: Started) -> int:
        """Steps that the warm-up takes at least, whatever the detector says."""
        longest = self._bench.longest_warm_up.get(slot)
        if longest is None:
            return max(WARMUP_MIN_STEPS, min(WARMUP_FIRST_STEPS, arm.steps_for(WARMUP_FIRST_S)))
        return max(WARMUP_MIN_STEPS, 2 * longest)

    def _record_start(self, slot: ArmSlot, arm: Started, state: SteadyState, capped: bool) -> None:
        steady = arm.step_ns[state.steady_from or 0 :] or arm.step_ns
        arm.typical_ns = statistics.median(steady)
        arm.compiled_files = arm.session.ask(life.ReadCache(), COMMAND_LIMIT_S).compiled_files
        append = self._bench.writer.append
        append(WorkerStarted(
            arm=slot, block=self._number, pid=arm.session.pid, spawn_ns=arm.session.spawn_ns,
            import_ns=arm.created.import_ns, build_ns=arm.built.build_ns, first_step_ns=arm.step_ns[0],
            first_stamp_ns=arm.start_ns[0], compile_ns=max(0, arm.step_ns[0] - round(arm.typical_ns)),
            cache=cache_word(arm.created.compiled_files, arm.compiled_files), parameter_count=arm.built.parameter_count,
            info=arm.built.info))
        append(WarmUp(arm=slot, block=self._number, start_ns=arm.start_ns, step_ns=arm.step_ns,
                      classification=state.classification, steady_from=state.steady_from, capped=capped))
        if capped:
            found = "reached no steady state" if state.steady_from is None else (
                f"was steady only from step {state.steady_from}, too late to confirm it,")
            append(NO_STEADY_STATE.found(f"{arm.session.arm.name} {found} in {len(arm.step_ns)} warm-up steps "
                                         f"of block {self._number}", arm=slot, block=self._number))

    def _windows(self, group: list[ArmSlot]) -> None:
        bench = self._bench
        for pair in range(bench.plan.pairs):
            bench.progress.status("")
            for position, slot in enumerate(self._turns(group, pair)):
                if slot in self._live:
                    self._guarded(slot, self._window, pair, position)
            bench.progress.advance()

    def _turns(self, group: list[ArmSlot], pair: int) -> list[ArmSlot]:
        """Who runs when in one pair; from the plan's order of arms, so that the recorded seed tells it."""
        return turn_order([slot for slot in self._bench.plan.slots if slot in group], self._plan.order_seed, pair)

    def _window(self, slot: ArmSlot, pair: int, position: int) -> None:
        arm = self._live[slot]
        steps = self._bench.window_steps or arm.steps_for(WINDOW_S)
        others = {other: started.session.pid for other, started in self._live.items() if other != slot}
        self._bench.sleep(HAND_OVER_S)
        before = {other: self._bench.cpu_ns(pid) for other, pid in others.items()}
        times = arm.session.ask(timing.Stepwise(steps=steps), arm.limit_s(steps))
        used = differences(before, {other: self._bench.cpu_ns(pid) for other, pid in others.items()})
        self._disturbance.waited(used, times.end_ns - times.start_ns[0])
        self._spent.setdefault(slot, {})[pair] = sum(times.step_ns) / steps
        self._bench.writer.append(Window(kind="stepwise", arm=slot, block=self._number, pair=pair, position=position,
                                         start_ns=times.start_ns[0], end_ns=times.end_ns, steps=steps,
                                         step_ns=times.step_ns, others_cpu_ns=used))

    def _shifts(self) -> list[str]:
        """Comparisons whose ratio settled on another level during the windows: some arm was not warm, whatever it said.

        The paired ratio is searched, not the times, because noise of the machine cancels in it.
        """
        from harness.stats.steady import detect

        found = []
        for comparison in self._bench.plan.comparisons:
            a, b = self._spent.get(comparison.a, {}), self._spent.get(comparison.b, {})
            ratios = [a[pair] / b[pair] for pair in sorted(a.keys() & b.keys())]
            state = detect(ratios) if len(ratios) >= 2 * WARMUP_MIN_STEPS else None
            if state is not None and state.classification == "warmup" and state.steady_from:
                found.append(f"the ratio of {comparison.a} to {comparison.b} settled only at pair {state.steady_from} "
                             f"of {len(ratios)}")
        return found

    def _free_windows(self, group: list[ArmSlot]) -> None:
        for pair in range(FREE_PAIRS):
            for position, slot in enumerate(self._turns(group, pair)):
                if slot in self._live:
                    self._bench.progress.status(f"{self._live[slot].session.arm.name}: free-running")
                    self._guarded(slot, self._free, pair, position)

    def _free(self, slot: ArmSlot, pair: int, position: int) -> None:
        arm = self._live[slot]
        steps = arm.steps_for(FREE_WINDOW_S[self._bench.plan.device])
        self._bench.sleep(HAND_OVER_S)
        with metered(self._bench, slot, self._number, steps) as done:
            span = arm.session.ask(timing.Free(steps=steps), arm.limit_s(steps))
            done(span)
        self._bench.writer.append(Window(kind="free", arm=slot, block=self._number, pair=pair, position=position,
                                         start_ns=span.start_ns, end_ns=span.end_ns, steps=steps, step_ns=[]))

    def _read(self, slot: ArmSlot) -> None:
        arm, bench = self._live[slot], self._bench
        if not bench.plan.cells:
            losses = arm.session.ask(training.ReadLosses(), COMMAND_LIMIT_S).losses
            bench.writer.append(Losses(arm=slot, block=self._number, randomness="native", first_step=0, losses=losses))
        cached = arm.session.ask(life.ReadCache(), COMMAND_LIMIT_S).compiled_files
        if cached is not None and arm.compiled_files is not None and cached > arm.compiled_files:
            bench.find(COMPILED_WHILE_MEASURED.found(
                f"{cached - arm.compiled_files} operators were compiled while block {self._number} of "
                f"{arm.session.arm.name} was measured", arm=slot, block=self._number))
        memory = arm.session.ask(timing.ReadMemory(), COMMAND_LIMIT_S)
        bench.writer.append(Memory(arm=slot, block=self._number, **memory.model_dump(exclude={"kind"})))
        bench.measured(Case(case_id=self._case(slot), arm=slot, block=self._number, status="measured",
                            log=f"logs/{self._log(slot)}.log"))

    def _stop(self, at_once: bool = False) -> None:
        self._bench.telemetry.watch({})
        for arm in self._live.values():
            arm.session.kill() if at_once else arm.session.stop()
        self._live.clear()

    def _case(self, slot: ArmSlot) -> str:
        return f"block-{self._number}-{slot}"

    def _log(self, slot: ArmSlot) -> str:
        return f"{slot}-block-{self._number}"

"""Four common guesses about the slower framework, each held against what this run measured: pure, as shares are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from harness.plan import Comparison
from harness.record.events import Apart, ArmSlot, Finding, Guess, PartName, Share
from harness.record.findings import COMPILED_WHILE_MEASURED
from harness.record.run import RecordedRun
from harness.stats.interval import MARGIN, Interval
from harness.stats.share import word_of
from harness.suites.why.apart import ratio, rounds, start_up, typical_ns
from harness.suites.why.shares import SEE_FAILED, even
from harness.suites.why.swaps import strongest
from messages import marked, recorded

WORDS = {"explains": "holds", "does-not-explain": "does-not-hold", "works-against": "does-not-hold",
         "inconclusive": "inconclusive"}
ATTENTION = "attention"
# What a known share of the loader leads to.
LOADER_NEXT = {
    "explains": marked("keep the data resident, or give the loader more --num-workers"),
    "does-not-explain": marked("begin elsewhere; --loader native measures every step with it"),
    "works-against": marked("--loader native measures every step with it, which is then the shorter gap"),
}


def guesses(run: RecordedRun, pair: Comparison, part: PartName, shares: Sequence[Share]) -> list[Guess]:
    """A verdict on each; none where neither arm is slower, or no step of them was measured.

    Args:
        run: what the part recorded.
        pair: whose gap it is.
        part: the part's name.
        shares: all that is known of this pair's gap.
    """
    steps = typical_ns(run, pair.a), typical_ns(run, pair.b)
    if steps[0] is None or steps[1] is None or even(run, pair):
        return []
    turned = steps[1] > steps[0]
    slow, fast = (pair.b, pair.a) if turned else (pair.a, pair.b)
    # Of several swaps of a class the one that closes most; a figure rather than why there is none.
    known = sorted(strongest(shares), key=lambda one: one.share is not None)
    told = _Told(run, pair, part, slow, fast, {(one.method, one.cause): one for one in known})
    return [told.loader(), told.compilation(), told.attention(), told.sampling()]


@dataclass(frozen=True)
class _Told:
    """One pair, its slow and its fast arm, and the shares by method and cause."""

    run: RecordedRun
    pair: Comparison
    part: PartName
    slow: ArmSlot
    fast: ArmSlot
    shares: dict[tuple[str, str], Share]

    def loader(self) -> Guess:
        """The slower one loads its images slowly."""
        share = self.shares.get(("apart", "loader"))
        if share is None or share.share is None:
            return self._unknown("loader", share)
        waits = [recorded("{arm} {time} ms", arm=self._name(slot), time=f"{mean(found) / 1e6:.3g}")
                 for slot in (self.slow, self.fast)
                 if (found := [one.first_ns for one in self.run.of(Apart) if one.arm == slot and one.first_ns])]
        adds = _with_limits(share)
        why = (recorded("the native loader would add {share} of the gap to it, and measured steps have their data "
                        "resident; the first batch of an epoch takes {times}", share=adds, times=", ".join(waits))
               if waits else recorded("the native loader would add {share} of the gap to it, and measured steps have "
                                      "their data resident", share=adds))
        return self._line("loader", WORDS[share.word], why, share.next_action or LOADER_NEXT[share.word])

    def compilation(self) -> Guess:
        """The slower one compiles while it runs."""
        start = start_up(self.run, self.pair, self.part)
        if start is None:
            return self._line("compilation", "not-measured", recorded("no start of both arms was recorded"), SEE_FAILED)
        found = [one.message for one in self.run.of(Finding)
                 if one.code == COMPILED_WHILE_MEASURED.code and one.arm == self.slow]
        own, other = (start.b_ns, start.a_ns) if self.slow == start.arm_b else (start.a_ns, start.b_ns)
        places = {"own": f"{own / 1e9:.3g}", "arm": self._name(self.fast), "other": f"{other / 1e9:.3g}"}
        what = (recorded("a start with empty caches takes {own} s, that of {arm} {other} s: once", **places)
                if start.cold else
                recorded("a start with warm caches takes {own} s, that of {arm} {other} s: once", **places))
        if start.steps is not None:
            what = (recorded("{start}, and the difference is {steps} step of the gap", start=what, steps=start.steps)
                    if start.steps == 1 else
                    recorded("{start}, and the difference is {steps} steps of the gap", start=what, steps=start.steps))
        if found:
            return self._line("compilation", "inconclusive", f"{found[0]}; {what}", COMPILED_WHILE_MEASURED.advice)
        return self._line("compilation", "does-not-hold",
                          recorded("nothing was compiled while steps were measured; {start}", start=what),
                          None if start.cold else recorded("--cold-start tells it for empty caches"))

    def attention(self) -> Guess:
        """Its attention is slow, for want of a fused operator."""
        alone, swapped = (self.shares.get((method, ATTENTION)) for method in ("isolated", "swapped"))
        known = [one for one in (alone, swapped) if one is not None and one.share is not None]
        if not known:
            return self._unknown("attention", alone or swapped)
        # Two methods may differ on how much it is, and agree that it is much.
        words = {WORDS[word_of(Interval(one.share or 0, one.ci_low or 0, one.ci_high or 0))] for one in known}
        held, closed = (_with_limits(one) if one is not None and one in known else None for one in (alone, swapped))
        if closed is None:
            why = recorded("it holds {share} of the gap; what another implementation closes was not measured",
                           share=held)
        elif held is None:
            why = recorded("another implementation of it in the same framework closes {share} of the gap", share=closed)
        else:
            why = recorded("it holds {share} of the gap; another implementation of it in the same framework closes "
                           "{closed} of the gap", share=held, closed=closed)
        return self._line("attention", words.pop() if len(words) == 1 else "inconclusive", why,
                          next((one.next_action for one in known if one.next_action), None))

    def sampling(self) -> Guess:
        """It samples faster, although it trains more slowly: as clocks say that do not wait."""
        own, other = rounds(self.run, self.slow, "sampling"), rounds(self.run, self.fast, "sampling")
        found = ratio([one.plain_ns for one in own], [one.plain_ns for one in other])
        if found is None:
            return self._line("sampling", "not-measured", recorded("fewer than two sampled batches of each arm"),
                              recorded("a backend draws with sampler(config); where it has one, see the failed cases"))
        word = ("holds" if found.high < 1 / (1 + MARGIN) else
                "does-not-hold" if found.low >= 1 / (1 + MARGIN) else "inconclusive")
        asked = median(one.other_ns / one.plain_ns for one in own)
        action = recorded("repeat on a quieter machine") if word == "inconclusive" else None
        ratio_ = f"{found.mean:.3g} [{found.low:.3g}, {found.high:.3g}]"
        return self._line("sampling", word, recorded(
            "waited for, a batch takes {ratio} times as long as in {arm}; a clock that does not wait shows {share} of "
            "its time", ratio=ratio_, arm=self._name(self.fast), share=f"{asked:.2%}"), action)

    def _unknown(self, guess: str, share: Share | None) -> Guess:
        reason = share.reason if share is not None else None
        action = share.next_action if share is not None else None
        return self._line(guess, "not-measured", reason or recorded("this run has no figure for it"), action)

    def _line(self, guess: str, word: str, reason: str, next_action: str | None = None) -> Guess:
        return Guess.model_validate({
            "part": self.part, "arm_a": self.pair.a, "arm_b": self.pair.b, "slow": self.slow, "guess": guess,
            "word": word, "reason": reason, "next_action": next_action})

    def _name(self, slot: ArmSlot) -> str:
        return self.run.arms.get(slot, slot)


def _with_limits(share: Share) -> str:
    return f"{share.share:.0%} [{share.ci_low:.0%}, {share.ci_high:.0%}]"

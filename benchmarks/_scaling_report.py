"""What `scaling.py` found, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from _scaling_model import SAMPLING, STAGES, Iteration, fixed, growing, learner_bound, pickling, straggling
from _scaling_runs import BATCH, GROUP, rate, usual
from _scaling_store import ADAPTER, CROWDS
from transformers import AutoModelForImageTextToText

from retouch_agents.finetuning import FineTuning, lora_layers
from retouch_agents.training.shapes import known_shape

RUNNERS = (1, 2, 8, 64, 512)
LARGE = "Qwen/Qwen2.5-VL-7B-Instruct"
RANKS = (8, 64)
A_MACHINE = 8
"""Runners of a machine, where bytes between machines are counted."""

NETWORKS = {"10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}

QUIET = 0.9
"""Share of a core from which on a process had one for itself."""

Found = Mapping[str, Any]


def report(found: Found) -> str:
    """Every table.

    Args:
        found: ``runs``, ``stages``, ``store``, ``machine``; see `scaling.py`. ``rest`` is added here.
    """
    whole = {**found, "rest": _rest(found)}
    parts = (_machine, _ends, _stages, _traffic, _check, _fixed, _growing, _turning, _bounds, _large)
    return "\n\n".join("\n".join(part(whole)) for part in parts)


def _rest(found: Found) -> float:
    """Seconds of an iteration that no stage takes: RLlib's own, and bookkeeping. Of the run without remote runners."""
    rows = [row for rows in found["runs"]["0"] for row in rows]
    clocks = ("sample_seconds", "learn_seconds", "sync_seconds")
    left = statistics.median(row["seconds"] - sum(row[clock] for clock in clocks) for row in rows)
    return max(0.0, left - found["stages"]["handling"][str(BATCH * GROUP)])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(head), "|" + "---|" * len(head), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2g} s" if seconds < 10 else f"{seconds:,.0f} s"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _size(count: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} bytes"


def _machine(found: Found) -> Iterator[str]:
    machine, stages, alone = found["machine"], found["stages"], found["runs"]["0"]
    yield (
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']}, Ray "
        f"{machine['ray']}, {machine['date']}, commit {machine['commit']}. Load while measuring "
        f"{machine['load'][0]:.1f} to {machine['load'][1]:.1f}; the runs without remote runners had "
        f"{usual(alone, 'processor') / usual(alone, 'seconds'):.2f} of a core, the stages in their own loops "
        f"{stages['granted']:.2f} (1 is a quiet machine). The policy has "
        f"{stages['weights']['parameters'] / 1e6:.2f} million parameters, a prompt "
        f"{stages['prompt_tokens']:.0f} tokens, an answer {stages['tokens']:.0f}, the photos are 64×64, the reward is "
        "the rule `edit`."
    )
    if min(usual(alone, "processor") / usual(alone, "seconds"), stages["granted"]) < QUIET:
        yield ""
        yield (
            "**Other work ran on this machine at the same time**: what is measured from end to end, and how far the "
            "prediction is off, says more about that than about scaling. Measure again on a quiet one."
        )


def _ends(found: Found) -> Iterator[str]:
    runs = found["runs"]
    yield "### Measured from end to end"
    yield ""
    rows = []
    for name, repeats in runs.items():
        sampling, whole = ([rate(rows, clock) for rows in repeats] for clock in ("sample_seconds", "seconds"))
        overlapped = "overlapped" in name
        rows.append(
            [
                name,
                "" if overlapped else _range(sampling),
                _range(whole),
                *("" if overlapped else _ms(usual(repeats, clock)) for clock in ("learn_seconds", "sync_seconds")),
                _ms(usual(repeats, "seconds")),
            ]
        )
    head = ("runners", "sampling, answers/s", "whole iteration, answers/s", "learning, ms", "sync, ms", "iteration, ms")
    yield from _table(head, rows)
    yield ""
    for kind in ("", " overlapped"):
        if f"2{kind}" in runs:
            label = "Sampling and learning in turns" if not kind else "Sampling overlapped with learning"
            parts = [f"the whole iteration {_efficiency(runs, kind, 'seconds')}"]
            if not kind:
                parts.insert(0, f"the sampling stage {_efficiency(runs, kind, 'sample_seconds')}")
            yield f"{label}, efficiency of 2 runners, rate(2) / (2 · rate(1)): {', '.join(parts)}."
    work = {name: usual(runs[name], "generate_seconds") for name in ("1", "2")}
    rows_of = found["stages"]["sampling"]
    alone = {"1": rows_of[str(BATCH)]["generation"], "2": 2 * rows_of[str(BATCH // 2)]["generation"]}
    yield (
        f"Generation took a single runner {work['1'] / alone['1']:.2f}× what it takes in a loop of its own, and two "
        f"runners side by side {work['2'] / alone['2']:.2f}×: what the two cores share."
    )


def _range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def _efficiency(runs: Found, kind: str, clock: str) -> str:
    values = [
        rate(two, clock) / (2 * rate(one, clock)) for one, two in zip(runs[f"1{kind}"], runs[f"2{kind}"], strict=True)
    ]
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def _stages(found: Found) -> Iterator[str]:
    stages = found["stages"]
    rows_of = stages["sampling"]
    yield "### Every stage by itself, ms an answer"
    yield ""
    yield "What a runner does, by how many answers it draws at a time:"
    yield ""
    names = {
        "tasks": "making the tasks",
        "encoding": "encoding the prompt, once a group",
        "generation": "generation",
        "parsing": "parsing",
        "rendering": "rendering",
        "reward": "reward",
        "rules": "rules and feedback",
    }
    counts = sorted(map(int, rows_of))
    rows = [
        [label, *(_ms(rows_of[str(count)][name] / count / GROUP) for count in counts)] for name, label in names.items()
    ]
    pickled = [_ms(pickling(stages, count * GROUP, "write") / count / GROUP) for count in counts]
    yield from _table(
        ("", *(f"{count * GROUP}" for count in counts)), [*rows, ["writing them for the driver", *pickled]]
    )
    yield ""
    most = rows_of[str(counts[-1])]["generation"] / counts[-1] / GROUP
    yield (
        f"Generation at {counts[-1] * GROUP} rows is {stages['tokens'] / most:,.0f} tokens a second. The slowest of 8, "
        f"64 and 512 runners, at 16 answers each, takes {_times(stages, 8)}, {_times(stages, 64)} and "
        f"{_times(stages, 512)} as long as one on the average, because its longest answer is longer."
    )
    yield ""
    yield "Learning, by how many answers a step has (forward, backward, Adam, and the reference's forward):"
    yield ""
    sizes = sorted(map(int, stages["learning"]))
    cells = [_ms(stages["learning"][str(size)] / size) for size in sizes]
    yield from _table(("", *map(str, sizes)), [["an optimiser step", *cells]])


def _times(stages: Found, runners: int) -> str:
    return f"{straggling(tuple(stages['longest']), 2, runners):.2f}×"


def _traffic(found: Found) -> Iterator[str]:
    stages, store = found["stages"], found["store"]
    weights = stages["weights"]
    yield "### What goes through Ray, and what the driver does"
    yield ""
    small, large = stages["pickled"]["16"], stages["pickled"]["128"]
    objects = store["objects"]["128"]
    yield (
        f"16 answers are {_size(small['bytes'])} on their way, 128 are {_size(large['bytes'])}: "
        f"{_size(large['bytes'] / 128)} an answer, a group's prompt counted once. Putting 128 answers into the object "
        f"store takes {_ms(objects['put'])} ms ({large['bytes'] / objects['put'] / 1e6:.0f} MB/s), getting them in "
        f"another process {_ms(objects['get'])} ms ({large['bytes'] / objects['get'] / 1e6:.0f} MB/s); an empty call "
        f"there and back {_ms(store['call']['wall'])} ms."
    )
    yield ""
    rows = []
    for count in CROWDS:
        collect = store["collect"][f"{count} 2"]
        push, ask = store["push"][str(count)], store["ask"][str(count)]
        handling = stages["handling"][str(16 * count)]
        cells = (collect["wall"], collect["driver"], handling, push["wall"], push["driver"], ask["wall"])
        rows.append([str(count), str(16 * count), *map(_ms, cells)])
    head = (
        "runners",
        "answers",
        "collected, ms",
        "of it the driver's",
        "lesson, minibatches, log, ms",
        "weights handed out, ms",
        "of it the driver's",
        "asked for their version, ms",
    )
    yield from _table(head, rows)
    yield ""
    yield (
        f"The weights are {_size(weights['bytes'])} (an adapter of rank 8: {_size(weights['adapter_bytes'])}); taking "
        f"them from the learner takes {_ms(weights['take'])} ms, taking them over in a runner "
        f"{_ms(weights['take_over'])} ms. "
        f"{_size(ADAPTER)}, as much as an adapter of a model with 7 billion parameters, are put into the store in "
        f"{_ms(store['put_adapter']['wall'])} ms and copied by {store['processes']} processes of this machine in "
        f"{_ms(store['push_adapter']['wall'])} ms, the putting included."
    )


def _check(found: Found) -> Iterator[str]:
    yield "### The prediction beside what was measured"
    yield ""
    rows = []
    for runners in (1, 2):
        predicted = fixed(found, runners, BATCH)
        runs = found["runs"][str(runners)]
        parts = {
            "sampling": (predicted.sampling, usual(runs, "sample_seconds")),
            "learning": (predicted.seconds["learning"], usual(runs, "learn_seconds")),
            "weight sync": (predicted.seconds["weight sync"], usual(runs, "sync_seconds")),
            "iteration": (predicted.total, usual(runs, "seconds")),
        }
        for name, (guess, true) in parts.items():
            rows.append([str(runners), name, _ms(guess), _ms(true), f"{100 * (guess / true - 1):+.0f}%"])
        ahead = found["runs"].get(f"{runners} overlapped")
        if ahead:
            guess, true = predicted.overlapped_on(found["machine"]["cores"]), usual(ahead, "seconds")
            rows.append(
                [str(runners), "iteration, overlapped", _ms(guess), _ms(true), f"{100 * (guess / true - 1):+.0f}%"]
            )
    yield from _table(("runners", "", "predicted, ms", "measured, ms", "error"), rows)


def _predicted(iterations: Sequence[Iteration]) -> list[str]:
    first = iterations[0]
    rows = []
    for one in iterations:
        rows.append(
            [
                str(one.runners),
                str(one.answers),
                *(_ms(one.seconds[name]) for name in STAGES),
                f"{one.rate:,.0f}",
                _percent(one.rate / first.rate / one.runners * first.runners),
                one.bound,
            ]
        )
    return _table(("runners", "answers", *STAGES, "answers/s", "efficiency", "bound"), rows)


def _fixed(found: Found) -> Iterator[str]:
    yield f"### Predicted: {BATCH * GROUP} answers an iteration, however many runners, ms"
    yield ""
    yield from _predicted([fixed(found, runners, BATCH) for runners in RUNNERS])


def _growing(found: Found) -> Iterator[str]:
    yield "### Predicted: 16 answers from every runner, ms"
    yield ""
    yield from _predicted([growing(found, runners) for runners in RUNNERS])


def _turning(found: Found) -> Iterator[str]:
    yield "### Predicted: what turning helps, answers a second at 16 from every runner"
    yield ""
    ways = {
        "as above": lambda one: (one.total, one.bound),
        "sampling overlapped with learning": lambda one: (one.overlapped, _side(one)),
        "and 8 learners": lambda one: _with_learners(one, 8),
        "and 64 learners": lambda one: _with_learners(one, 64),
    }
    rows = []
    for name, way in ways.items():
        cells = []
        for runners in RUNNERS[2:]:
            one = growing(found, runners)
            seconds, bound = way(one)
            cells.append(f"{one.answers / seconds:,.0f} ({bound})")
        rows.append([name, *cells])
    yield from _table(("", *(f"{runners} runners" for runners in RUNNERS[2:])), rows)


def _side(one: Iteration) -> str:
    ahead = (*SAMPLING, "object store", "weight sync")
    side = ahead if one.ahead >= one.overlapped else [name for name in STAGES if name not in ahead]
    return max(side, key=lambda name: one.seconds[name])


def _with_learners(one: Iteration, count: int) -> tuple[float, str]:
    """Overlapped, and the learning shared out ideally: nothing is counted for the exchange of gradients."""
    seconds = {**one.seconds, "learning": one.seconds["learning"] / count}
    shared = Iteration(one.runners, one.busy, one.answers, seconds)
    return shared.overlapped, _side(shared)


def _bounds(found: Found) -> Iterator[str]:
    yield "### What bounds"
    yield ""
    for runners in RUNNERS[2:]:
        still, grown = fixed(found, runners, BATCH), growing(found, runners)
        yield (
            f"- {runners} runners: with {still.answers} answers an iteration {_shares(still)}; with {grown.answers:,} "
            f"{_shares(grown)}."
        )
    at, one, many = learner_bound(found), growing(found, 1), growing(found, RUNNERS[-1])
    drawn = sum(one.seconds[name] for name in SAMPLING) / one.answers
    learned = many.seconds["learning"] / many.answers
    yield (
        f"- An answer takes a runner {_ms(drawn)} ms, 16 at a time, and the learner {_ms(learned)} ms in steps of 128: "
        f"{drawn / learned:.1f} runners a learner. Small steps are slow too: at 16 answers from each, learning takes "
        f"longer than sampling from {at} runner{'s' if at > 1 else ''} on."
    )
    calls = sum(many.seconds[name] for name in ("object store", "weight sync")) / many.runners
    yield f"- Calls, answers and weights take the driver {_ms(calls)} ms a runner and iteration, with 512 runners."
    most, rule = one.seconds["generation"] / one.answers, one.seconds["reward"] / one.answers
    yield (
        f"- A reward becomes the longest part of a runner's work from {_ms(most)} ms an answer on; `edit` takes "
        f"{_ms(rule)} ms."
    )


def _shares(one: Iteration) -> str:
    """The largest stages and their share of the iteration."""
    order = sorted(one.seconds, key=lambda name: -one.seconds[name])
    return ", ".join(f"{name} ({one.seconds[name] / one.total:.0%})" for name in order[:3])


def _large(found: Found) -> Iterator[str]:
    config = known_shape(LARGE)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    layers = [model.get_submodule(name) for name in lora_layers(model, FineTuning(lora_rank=1))]
    width = sum(layer.in_features + layer.out_features for layer in layers)
    yield "### Not measured: bytes of a large model's weights"
    yield ""
    yield (
        f"{LARGE} has {count / 1e9:.2f} billion parameters, counted from its architecture. Weights travel as float32 "
        f"(NumPy has no bfloat16): 4 bytes each. An adapter of rank r has r · Σ (inputs + outputs) over {len(layers)} "
        f"linear layers, r · {width / 1e6:.2f} million parameters. Seconds are bytes over bandwidth: for a machine of "
        f"{A_MACHINE} runners, which share its object store, and for 64 such machines, at best in log₂ 64 = 6 rounds, "
        "where those that have it pass it on, at worst one after the other from one sender."
    )
    yield ""
    rows = []
    loads = {"all weights": 4 * count} | {f"adapter, r = {rank}": 4 * rank * width for rank in RANKS}
    for name, size in loads.items():
        cells = [
            f"{_seconds(size / speed)} / {_seconds(6 * size / speed)} to {_seconds(64 * size / speed)}"
            for speed in NETWORKS.values()
        ]
        rows.append([name, _size(size), *cells])
    yield from _table(("", "bytes", *(f"{name}, 8 / 512 runners" for name in NETWORKS)), rows)

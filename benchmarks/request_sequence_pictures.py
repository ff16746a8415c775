"""Pictures of benchmarks/request_sequence.py."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from request_sequence_report import ALL, ARMS, Results, cosines, kept

from lit_unlearn.report.style import COLOURS, STYLE, bare


def save_pictures(found: Results, folder: Path) -> dict[str, Path]:
    """Draw all pictures.

    Returns:
        Title -> file.
    """
    drawn = {
        "forgotten share of each request over the sequence; dotted before the request": (
            "forgotten",
            forgotten_panels(found),
        ),
        "what must stay, as a share of the target, over the sequence": ("kept", kept_lines(found)),
        "cosines of the objective `earlier` in training": ("cosines", cosine_panels(found)),
    }
    saved = {}
    with matplotlib.rc_context(STYLE):
        for title, (name, figure) in drawn.items():
            saved[title] = folder / f"{name}.png"
            figure.savefig(saved[title], dpi=110, facecolor="white")
    return saved


def forgotten_panels(found: Results) -> Figure:
    """Draw a panel for each arm, with a line for each request."""
    figure = Figure(figsize=(3.2 * len(ARMS), 3.0), layout="constrained")
    panels = figure.subplots(1, len(ARMS), sharey=True)
    for axes, arm in zip(panels, ARMS, strict=True):
        models = found.sequence(arm)
        for j, colour in zip(ALL, COLOURS, strict=False):
            values = [found.forgotten(model, j) for model in models]
            times = list(range(1, len(values) + 1))
            axes.plot(times[:j], [v[0] for v in values[:j]], color=colour, lw=0.8, ls=":")
            since = values[j - 1 :]
            axes.plot(
                times[j - 1 :],
                [v[0] for v in since],
                color=colour,
                marker="o",
                ms=4,
                label=f"request {j}",
            )
            ends = [v[1] for v in since], [v[2] for v in since]
            axes.fill_between(times[j - 1 :], *ends, color=colour, alpha=0.1, lw=0)
        axes.set(title=arm, xlabel="after request", xticks=list(ALL), ylim=(-0.02, 1.02))
        bare(axes)
    panels[0].set_ylabel("forgotten, 0 to 1")
    panels[0].legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def kept_lines(found: Results) -> Figure:
    """Draw a line for each arm."""
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.subplots()
    for arm, colour in zip(ARMS, COLOURS, strict=False):
        values = [kept(model, found.target) for model in found.sequence(arm)]
        times = list(range(1, len(values) + 1))
        axes.plot(times, [v[0] for v in values], color=colour, marker="o", ms=4, label=arm)
        axes.fill_between(
            times, [v[1] for v in values], [v[2] for v in values], color=colour, alpha=0.1, lw=0
        )
    axes.set(xlabel="after request", ylabel="kept, 0 to 1", xticks=list(ALL), ylim=(-0.02, 1.02))
    axes.legend(frameon=False)
    bare(axes)
    return figure


def cosine_panels(found: Results) -> Figure:
    """Draw a panel for each arm that joins rows, with a line for each objective over all steps."""
    arms = [arm for arm in ARMS if arm != "plain"]
    figure = Figure(figsize=(4.2 * len(arms), 3.0), layout="constrained")
    panels = figure.subplots(1, len(arms), sharey=True)
    for axes, arm in zip(panels, arms, strict=True):
        for number, model in enumerate(found.sequence(arm), start=1):
            for (name, values), colour in zip(cosines(model.run).items(), COLOURS, strict=False):
                last = max(step for step, _ in values) + 1
                places = [number - 1 + step / last for step, _ in values]
                label = name if number == 2 else None
                axes.plot(places, [v for _, v in values], color=colour, label=label)
        axes.axhline(0, color="grey", lw=0.6)
        axes.set(title=arm, xlabel="requests in training", xlim=(1, len(ALL)), ylim=(-1, 1))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=7)
        bare(axes)
    panels[0].set_ylabel("cosine with `earlier`")
    return figure
